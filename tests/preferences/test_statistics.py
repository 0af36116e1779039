"""The statistics of a store: worked by hand on a few votes, and what must stay out of them."""

import json
from collections.abc import Callable

import pytest

from foundling.base.config import ConfigError
from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Pair, Verdict, Vote
from foundling.preferences.selection import Selection
from foundling.preferences.statistics import statistics
from foundling.preferences.store import PreferenceStore

MakePair = Callable[..., Pair]


def say(store: PreferenceStore, name: str, pair_id: int, verdict: Verdict) -> None:
    item = store.lease_pair(name, pair_id)
    store.record(Vote(item.key, name, verdict, milliseconds=1000))


def test_an_empty_store_has_statistics(file_store: PreferenceStore) -> None:
    found = statistics(file_store)
    assert json.loads(json.dumps(found)) == found
    assert found["counts"]["pairs"] == 0
    assert found["agreement"]["krippendorff_alpha"]["value"] is None


def test_a_few_votes_by_hand(file_store: PreferenceStore, pair_of: MakePair) -> None:
    store = file_store
    ids = store.add_pairs(pair_of(n) for n in range(6))
    (gold,) = store.add_pairs([pair_of(9, "B")])
    for name, simulated in (("ann", False), ("bob", False), ("rule", True)):
        store.add_annotator(name, simulated=simulated)
    verdicts: list[Verdict] = ["A", "B", "B", "tie", "both_bad", "skip"]
    for pair_id, verdict in zip(ids, verdicts, strict=True):
        say(store, "ann", pair_id, verdict)
    say(store, "bob", ids[0], "A")
    say(store, "bob", ids[1], "A")
    say(store, "ann", gold, "B")
    say(store, "rule", ids[2], "A")
    store.undo("rule", "u")
    found = statistics(store, bootstrap=50)
    assert json.loads(json.dumps(found)) == found
    counts = found["counts"]
    assert (counts["comparisons"], counts["skipped"], counts["gold"]) == (8, 1, 1)
    assert (counts["undone"], counts["simulated"], counts["pairs_judged"]) == (1, 0, 6)
    assert found["verdicts"] == {"A": 3, "B": 2, "tie": 1, "both_bad": 1}
    (rate,) = found["win_rates"]
    assert (rate["first"], rate["second"]) == ("new", "old")
    assert (rate["wins"], rate["losses"], rate["ties"]) == (1, 1, 3)  # items, not votes
    assert found["ranking"]["num_outcomes"] == 7
    assert found["agreement"]["krippendorff_alpha"]["n"] == 2
    assert found["agreement"]["cohen_kappa"][0]["annotators"] == ["ann", "bob"]
    assert (found["gold"]["count"], found["gold"]["n"]) == (1, 1)
    assert (found["length"]["longer_won"]["count"], found["length"]["longer_won"]["n"]) == (2, 5)
    assert found["position"]["left_won"]["n"] == 5
    assert found["milliseconds"] == {"median": 1000, "n": 7}


def test_repeats_tell_who_keeps_to_a_side(file_store: PreferenceStore, pair_of: MakePair) -> None:
    """One takes the left side always, the other the answer."""
    store = file_store
    store.add_pairs(pair_of(n) for n in range(20))
    settings = Leasing(overlap=2, repeat_share=0.5, repeat_gap=2)
    for name in ("left", "fair"):
        store.add_annotator(name)
        while (item := store.lease_next(name, settings)) is not None:
            store.record(Vote(item.key, name, item.left if name == "left" else "B"))
    found = statistics(store, bootstrap=20)
    each = found["self_consistency"]["annotators"]
    assert (each["left"]["share"], each["fair"]["share"]) == (0, 1)
    assert each["left"]["n"] == each["fair"]["n"] > 5
    assert found["position"]["same_side_on_repeat"]["share"] == 0.5
    assert found["counts"]["repeats"] == 2 * each["left"]["n"]
    assert found["ranking"]["num_outcomes"] == 40


def test_ratings_beside_comparisons(file_store: PreferenceStore, pair_of: MakePair) -> None:
    store = file_store
    ids = store.add_pairs(pair_of(n) for n in range(4))
    store.add_annotator("ann")
    rated = [(5, 2), (5, 2), (4, 4), (1, 7)]
    for pair_id, verdict, ratings in zip(ids, ["A", "B", "A", "tie"], rated, strict=True):
        say(store, "ann", pair_id, verdict)
        item = store.lease_pair("ann", pair_id, kind="rating")
        store.record(Vote(item.key, "ann", ratings=ratings))
    found = statistics(store, bootstrap=10)["ratings"]
    assert found["both"] == 4
    preferred = found["higher_rated_is_preferred"]
    assert (preferred["count"], preferred["n"]) == (1, 2)
    assert (found["rating"]["ties"]["count"], found["comparison"]["ties"]["count"]) == (1, 1)
    assert found["means"]["old"] == {"mean": 3.75, "n": 4, "counts": {"1": 1, "4": 1, "5": 2}}


def test_people_and_rules_apart(file_store: PreferenceStore, pair_of: MakePair) -> None:
    (pair_id,) = file_store.add_pairs([pair_of(1)])
    file_store.add_annotator("ann")
    file_store.add_annotator("rule", simulated=True)
    say(file_store, "ann", pair_id, "A")
    say(file_store, "rule", pair_id, "B")
    assert statistics(file_store, selection=Selection("people"))["verdicts"]["A"] == 1
    assert statistics(file_store, selection=Selection("people"))["verdicts"]["B"] == 0
    assert statistics(file_store, selection=Selection("simulated"))["verdicts"]["B"] == 1
    assert statistics(file_store, bootstrap=5)["counts"]["comparisons"] == 2
    with pytest.raises(ConfigError, match="no such group"):
        statistics(file_store, selection=Selection("humans"))  # type: ignore[arg-type]
