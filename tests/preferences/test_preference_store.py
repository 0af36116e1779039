"""The store of votes: what it keeps, what it refuses, and the same on both databases."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from foundling.base.config import ConfigError
from foundling.preferences import schema
from foundling.preferences.checks import Conflict
from foundling.preferences.database import Database
from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Answer, Pair, Vote
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Message

MakePair = Callable[..., Pair]
ONCE = Leasing(repeat_share=0)


def test_a_pair_comes_back_as_it_was(store: PreferenceStore) -> None:
    whole = Pair(
        (Message("system", "s"), Message("user", "q")),
        Answer("a\0 \ud800 ü", "run-1", "abc", (1, 2, 3), 2**62),
        Answer("", "run-2"),
        prompt_source="file:3",
        sampling={"temperature": 0.7},
        gold="B",
        strategy="uncertain",
        propensity=0.25,
    )
    added = store.add_pair(whole)
    assert store.add_pair(whole) == added
    other = store.add_pair(replace(whole, gold=None))
    assert store.pairs() == {added: whole, other: replace(whole, gold=None)}
    assert len(set(store.prompt_ids().values())) == 1


def test_a_vote_comes_back_with_all_that_was_known(
    store: PreferenceStore, pair_of: MakePair
) -> None:
    store.add_pair(pair_of(1))
    store.add_annotator("ann")
    version = store.set_rubric("Be kind.")
    item = store.lease_next("ann", now=10)
    assert item is not None
    assert (item.pair, item.kind, item.repeat_of) == (pair_of(1), "comparison", None)
    assert {item.answer(item.left).text, item.answer(item.right).text} == {
        "first 1",
        "second 1, longer",
    }
    vote = Vote(item.key, "ann", "B", None, 2, "kinder\0", 1500, version)
    receipt = store.record(vote, now=12)
    (kept,) = store.judgements()
    assert (kept.id, kept.key, kept.created) == (receipt.judgement_id, item.key, 12)
    assert (kept.annotator, kept.verdict, kept.strength, kept.reason) == ("ann", "B", 2, "kinder\0")
    assert (kept.milliseconds, kept.rubric_version, kept.left) == (1500, version, item.left)
    assert (kept.simulated, kept.strategy, kept.propensity) == (False, "random", 1.0)
    assert store.lease_next("ann", now=13) is None


def test_the_same_key_counts_once_and_another_vote_under_it_is_refused(
    store: PreferenceStore, pair_of: MakePair
) -> None:
    store.add_pair(pair_of(1))
    for name in ("ann", "bob"):
        store.add_annotator(name)
    item = store.lease_next("ann")
    assert item is not None
    vote = Vote(item.key, "ann", "A", milliseconds=10)
    receipt = store.record(vote)
    assert store.record(replace(vote, milliseconds=20)) == receipt
    with pytest.raises(Conflict, match="a vote on this item is kept already"):
        store.record(replace(vote, verdict="B"))
    with pytest.raises(Conflict, match="is kept already"):
        store.record(replace(vote, annotator="bob"))
    assert [j.verdict for j in store.events()] == ["A"]


def test_an_undo_is_an_event_and_the_item_comes_again(
    store: PreferenceStore, pair_of: MakePair
) -> None:
    store.add_pairs(pair_of(n) for n in range(3))
    store.add_annotator("ann")
    first = store.lease_next("ann", ONCE)
    assert first is not None
    vote = Vote(first.key, "ann", "A")
    voted = store.record(vote)
    undone = store.undo("ann", "u-1")
    assert store.undo("ann", "u-1") == undone
    assert store.judgements() == []
    assert [(e.kind, e.supersedes) for e in store.events()] == [
        ("comparison", None),
        ("undo", voted.judgement_id),
    ]
    again = store.lease_next("ann", ONCE)
    assert again is not None
    assert (again.pair_id, again.left) == (first.pair_id, first.left)
    assert again.key != first.key
    # A late retry of the undone vote is still that vote, and stays undone.
    assert store.record(vote) == voted
    assert store.judgements() == []
    store.record(Vote(again.key, "ann", "B"))
    assert [j.verdict for j in store.judgements()] == ["B"]
    with pytest.raises(Conflict, match="no judgement of this annotator that stands"):
        store.undo("ann", "u-2", voted.judgement_id)
    with pytest.raises(Conflict, match="is kept already"):
        store.undo("ann", "u-1", voted.judgement_id)
    progress = store.progress("ann", ONCE)
    assert (progress.judged, progress.undone, progress.waiting) == (1, 1, 2)


def test_nobody_else_undoes_a_vote(store: PreferenceStore, pair_of: MakePair) -> None:
    store.add_pair(pair_of(1))
    for name in ("ann", "bob"):
        store.add_annotator(name)
    item = store.lease_next("ann")
    assert item is not None
    kept = store.record(Vote(item.key, "ann", "A"))
    with pytest.raises(Conflict):
        store.undo("bob", "u", kept.judgement_id)
    with pytest.raises(ConfigError, match="no judgement to take back"):
        store.undo("bob", "u")


def test_ratings_stand_beside_comparisons(store: PreferenceStore, pair_of: MakePair) -> None:
    store.add_pair(pair_of(1))
    store.add_annotator("ann")
    rate = store.lease_next("ann", kind="rating")
    compare = store.lease_next("ann")
    assert rate is not None
    assert compare is not None
    with pytest.raises(ConfigError, match="to be rated"):
        store.record(Vote(rate.key, "ann", "A"))
    with pytest.raises(ConfigError, match="is a comparison"):
        store.record(Vote(compare.key, "ann", ratings=(1, 2)))
    store.record(Vote(rate.key, "ann", ratings=(7, 1)))
    store.record(Vote(compare.key, "ann", "skip"))
    assert [(j.kind, j.verdict, j.ratings) for j in store.judgements()] == [
        ("rating", None, (7, 1)),
        ("comparison", "skip", None),
    ]


def test_votes_that_are_none(store: PreferenceStore, pair_of: MakePair) -> None:
    store.add_pair(pair_of(1))
    store.add_annotator("ann")
    item = store.lease_next("ann")
    assert item is not None
    good = Vote(item.key, "ann", "A")
    for bad, message in [
        (replace(good, verdict="C"), 'verdict = "C": no such verdict'),
        (replace(good, verdict=None), "either a verdict or ratings"),
        (replace(good, ratings=(1, 2)), "either a verdict or ratings"),
        (replace(good, verdict=None, ratings=(0, 2)), "two from 1 to 7"),
        (replace(good, strength=4), "give 1, 2 or 3"),
        (replace(good, verdict="tie", strength=1), 'only a verdict "A" or "B"'),
        (replace(good, milliseconds=-1), "must not be below 0"),
        (replace(good, rubric_version=9), "no such version"),
        (replace(good, key="other"), "no item has it"),
        (replace(good, key=""), "key is empty"),
        (replace(good, annotator="bob"), 'annotator "bob": not known'),
    ]:
        with pytest.raises(ConfigError, match=message):
            store.record(bad)
    assert store.events() == []


def test_pairs_that_are_none(store: PreferenceStore, pair_of: MakePair) -> None:
    good = pair_of(1)
    for bad, message in [
        (replace(good, gold="skip"), "no such gold verdict"),
        (replace(good, propensity=0.0), "above 0 and at most 1"),
        (replace(good, prompt=()), "hold no turn"),
        (replace(good, a=Answer("x", "")), "source is empty"),
    ]:
        with pytest.raises(ConfigError, match=message):
            store.add_pairs([pair_of(2), bad])
    assert store.pairs() == {}


def test_annotators_tokens_and_rubrics(store: PreferenceStore) -> None:
    store.add_annotator("ann")
    store.add_annotator("ann")
    store.add_annotator("rule", simulated=True)
    assert store.annotators() == {"ann": False, "rule": True}
    with pytest.raises(Conflict, match="is known as a person"):
        store.add_annotator("ann", simulated=True)
    with pytest.raises(ConfigError, match="printable"):
        store.add_annotator(" ")
    old = store.issue_token("ann")
    new = store.issue_token("ann")
    assert (store.annotator_of(old), store.annotator_of(new)) == (None, "ann")
    assert store.rubric() is None
    one = store.set_rubric("Be kind.")
    two = store.set_rubric("Be brief.")
    assert (store.set_rubric("Be brief."), two) == (two, one + 1)
    newest, first = store.rubric(), store.rubric(one)
    assert newest is not None
    assert first is not None
    assert (newest.text, first.text) == ("Be brief.", "Be kind.")


def test_what_was_said_outlives_the_store(place: str, pair_of: MakePair) -> None:
    with PreferenceStore.open(place) as one:
        one.add_pair(pair_of(1))
        one.add_annotator("ann")
        item = one.lease_next("ann")
        assert item is not None
        one.record(Vote(item.key, "ann", "tie"))
        kept = one.events()
    with PreferenceStore.open(place) as other:
        assert other.events() == kept


@pytest.mark.parametrize("table", ["pairs", "prompts", "judgements", "rubrics"])
def test_the_database_itself_refuses_changes(
    store: PreferenceStore, place: str, pair_of: MakePair, table: str
) -> None:
    store.add_pair(pair_of(1))
    store.add_annotator("ann")
    store.set_rubric("Be kind.")
    item = store.lease_next("ann")
    assert item is not None
    store.record(Vote(item.key, "ann", "A"))
    database = Database(place)
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET created = 0"):
        with pytest.raises(DBAPIError, match="never changed"), database.write() as connection:
            connection.execute(sql.text(statement))
    database.close()


def test_an_unknown_schema_is_refused(place: str) -> None:
    PreferenceStore.open(place).close()
    database = Database(place)
    with database.write() as connection:
        connection.execute(sql.update(schema.meta).values(value="99"))
    database.close()
    with pytest.raises(ConfigError, match="version 99, this Foundling knows 1"):
        PreferenceStore.open(place)


def test_places_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database, however long it may be. " * 30)
    for place, message in [
        ("mysql://x/y", "no such database"),
        ("sqlite://", "votes in memory would be lost"),
        (tmp_path / "none" / "votes.db", "is not there"),
        (tmp_path / "text.db", "cannot be opened: file is not a database"),
    ]:
        with pytest.raises(ConfigError, match=message):
            PreferenceStore.open(place)
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="cannot be opened") as refused:
        PreferenceStore.open(f"postgresql://me:secret@/votes?host={tmp_path}")
    assert "secret" not in str(refused.value)


def test_a_store_is_known_by_an_identity_of_its_own(place: str, tmp_path: Path) -> None:
    with PreferenceStore.open(place) as one, PreferenceStore.open(tmp_path / "other.db") as other:
        assert one.identity != other.identity
        # As in a database from before there were identities.
        with one._database.write() as connection:
            connection.exec_driver_sql("DELETE FROM foundling_meta WHERE name = 'identity'")
    with PreferenceStore.open(place) as again:
        found = again.identity
    with PreferenceStore.open(place) as again:
        assert again.identity == found != ""


def test_names_that_read_the_same_are_one_annotator(
    store: PreferenceStore, pair_of: MakePair
) -> None:
    store.add_pair(pair_of(1))
    for name in ("Zoë Ann", " zoe\u0308  ANN"):  # composed, and decomposed
        store.add_annotator(name)
    assert store.annotators() == {"Zoë Ann": False}
    assert store.annotator_of(store.issue_token("ZOË ann")) == store.known_as("zoë ann")
    item = store.lease_next("zoë ann")
    assert item is not None
    receipt = store.record(Vote(item.key, "ZOË ANN", "A"))
    assert store.record(Vote(item.key, "Zoë Ann", "A")) == receipt
    assert store.undo("zoë ann", "u") == store.undo("Zoë Ann", "u")
