"""Who gets which item: overlap, expiry, repeats, gold items, and strategies."""

from collections import Counter
from collections.abc import Callable

import pytest

from foundling.base.config import ConfigError
from foundling.preferences.checks import Conflict
from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Item, Pair, Vote
from foundling.preferences.store import PreferenceStore

MakePair = Callable[..., Pair]


def filled(store: PreferenceStore, pair_of: MakePair, n: int, *names: str) -> None:
    store.add_pairs(pair_of(number) for number in range(n))
    for name in names:
        store.add_annotator(name)


def vote_on_all(store: PreferenceStore, name: str, settings: Leasing) -> list[Item]:
    items = []
    while (item := store.lease_next(name, settings)) is not None:
        store.record(Vote(item.key, name, "A"))
        items.append(item)
    return items


def test_overlap_and_expiry(store: PreferenceStore, pair_of: MakePair) -> None:
    filled(store, pair_of, 2, "ann", "bob", "cid")
    settings = Leasing(overlap=1, ttl_seconds=100, repeat_share=0)
    ann, bob = (store.lease_next(name, settings, now=0) for name in ("ann", "bob"))
    assert ann is not None
    assert bob is not None
    assert ann.pair_id != bob.pair_id
    assert store.lease_next("cid", settings, now=50) is None
    assert store.progress("cid", settings, now=50).waiting == 0
    assert store.lease_next("ann", settings, now=50) == Item(**{**vars(ann), "expires": 150})
    cid = store.lease_next("cid", settings, now=100)
    assert cid is not None
    assert cid.pair_id == bob.pair_id  # ann's was renewed
    # Bob's vote comes late, and counts all the same.
    store.record(Vote(bob.key, "bob", "A"), now=120)
    store.record(Vote(cid.key, "cid", "B"), now=121)
    assert [j.annotator for j in store.judgements()] == ["bob", "cid"]


def test_an_expired_item_comes_back_under_its_key(
    store: PreferenceStore, pair_of: MakePair
) -> None:
    filled(store, pair_of, 1, "ann")
    settings = Leasing(ttl_seconds=10)
    first = store.lease_next("ann", settings, now=0)
    again = store.lease_next("ann", settings, now=50)
    assert first is not None
    assert again is not None
    assert (again.key, again.left) == (first.key, first.left)


def test_items_ahead(store: PreferenceStore, pair_of: MakePair) -> None:
    filled(store, pair_of, 3, "ann")
    keys: list[str] = []
    while (item := store.lease_next("ann", holding=keys)) is not None:
        keys.append(item.key)
    assert len(set(keys)) == 3
    reloaded = store.lease_next("ann")
    assert reloaded is not None
    assert reloaded.key == keys[0]


def test_a_skipped_item_is_free_for_others(store: PreferenceStore, pair_of: MakePair) -> None:
    filled(store, pair_of, 1, "ann", "bob")
    item = store.lease_next("ann")
    assert item is not None
    store.record(Vote(item.key, "ann", "skip"))
    assert store.lease_next("ann") is None
    assert store.lease_next("bob") is not None


def test_an_item_comes_back_to_whom_undoes_though_others_have_had_it_since(
    store: PreferenceStore, pair_of: MakePair
) -> None:
    filled(store, pair_of, 1, "ann", "bob", "cid")
    settings = Leasing(overlap=1, ttl_seconds=100, repeat_share=0)
    item = store.lease_next("ann", settings, now=0)
    assert item is not None
    skip = store.record(Vote(item.key, "ann", "skip"), now=0)
    taken = store.lease_next("bob", settings, now=0)
    assert taken is not None
    store.record(Vote(taken.key, "bob", "A"), now=0)
    store.undo("ann", "undo", skip.judgement_id, settings=settings, now=0)
    again = store.lease_next("ann", settings, now=50)
    assert again is not None
    assert again.pair_id == item.pair_id
    assert store.lease_next("ann", settings, now=150) is None  # it has expired, and bob has voted
    assert store.lease_next("cid", settings, now=50) is None


def test_a_tenth_comes_again_with_sides_flipped(
    file_store: PreferenceStore, pair_of: MakePair
) -> None:
    filled(file_store, pair_of, 60, "ann")
    items = vote_on_all(file_store, "ann", Leasing(repeat_gap=5))
    repeats = [(place, item) for place, item in enumerate(items) if item.repeat_of is not None]
    assert len(items) == 66
    assert len(repeats) == 6
    for place, item in repeats:
        (before,) = [n for n, it in enumerate(items[:place]) if it.pair_id == item.pair_id]
        assert place - before > 5
        assert item.left != items[before].left
    assert 15 < sum(item.left == "A" for item in items) < 51


def test_gold_items_come_to_everyone_and_are_never_repeated(
    file_store: PreferenceStore, pair_of: MakePair
) -> None:
    filled(file_store, pair_of, 40, "ann", "bob")
    file_store.add_pairs(pair_of(number, "A") for number in (100, 101, 102))
    settings = Leasing(overlap=2, repeat_gap=2)
    for name in ("ann", "bob"):
        items = vote_on_all(file_store, name, settings)
        golds = [item for item in items if item.pair.gold is not None]
        assert len({item.pair_id for item in golds}) == len(golds) == 3
        assert all(item.repeat_of is None for item in golds)


def test_the_propensity_of_a_choice_is_kept(file_store: PreferenceStore, pair_of: MakePair) -> None:
    filled(file_store, pair_of, 4, "ann")
    vote_on_all(file_store, "ann", Leasing())
    assert [j.propensity for j in file_store.judgements()] == [1 / 4, 1 / 3, 1 / 2, 1]


def test_strategies_need_scores(file_store: PreferenceStore, pair_of: MakePair) -> None:
    filled(file_store, pair_of, 4, "ann")
    settings = Leasing(strategy="uncertain")
    with pytest.raises(ConfigError, match="needs a score of each source"):
        file_store.lease_next("ann", settings)
    with pytest.raises(ConfigError, match="no score of new"):
        file_store.lease_next("ann", settings, scores={"old": 0})
    item = file_store.lease_next("ann", settings, scores={"old": 0, "new": 1})
    assert item is not None
    file_store.record(Vote(item.key, "ann", "A"))
    assert file_store.judgements()[0].strategy == "uncertain"


def test_one_pair_for_one_annotator(store: PreferenceStore, pair_of: MakePair) -> None:
    filled(store, pair_of, 2, "ann", "bob")
    (pair_id, _) = store.pairs()
    for name in ("ann", "bob"):
        item = store.lease_pair(name, pair_id)
        store.record(Vote(item.key, name, "B"))
        with pytest.raises(Conflict, match="has judged it"):
            store.lease_pair(name, pair_id)
    with pytest.raises(ConfigError, match="no such pair"):
        store.lease_pair("ann", 99)
    assert Counter(j.pair_id for j in store.judgements()) == {pair_id: 2}


@pytest.mark.parametrize("num_items", [0, 8, 9, 10, 11, 20])
@pytest.mark.parametrize("num_gold", [0, 3])
@pytest.mark.parametrize("repeat_share", [0, 0.1, 0.5])
def test_what_never_comes_up_is_said(
    file_store: PreferenceStore,
    pair_of: MakePair,
    num_items: int,
    num_gold: int,
    repeat_share: float,
) -> None:
    settings = Leasing(repeat_share=repeat_share)
    filled(file_store, pair_of, num_items, "ann")
    file_store.add_pairs(pair_of(100 + number, gold="A") for number in range(num_gold))
    shown = vote_on_all(file_store, "ann", settings)
    wanted = {
        "gold": num_gold and not any(item.pair.gold for item in shown),
        "repeated": repeat_share and not any(item.repeat_of for item in shown),
    }
    notes = settings.never_shown(num_items, num_gold)
    assert [any(word in note for note in notes) for word in wanted] == [
        bool(value) for value in wanted.values()
    ]
