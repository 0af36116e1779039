"""Votes of the chat page in the database that the comparison page uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from foundling.base.config import ConfigError
from foundling.preferences.checks import Conflict
from foundling.preferences.store import PreferenceStore
from foundling.serving.votes import Side, Turn, VoteRequest, keep_vote


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore.open(tmp_path / "votes.db") as opened:
        yield opened


def vote(verdict: str = "second", name: str = "ann", **changes: object) -> VoteRequest:
    prompt = [Turn(role="system", content="Be brief."), Turn(role="user", content="Why?")]
    answers = (Side(model="base", text="Since", seed=3), Side(model="tuned", text="Because."))
    body = {"annotator": name, "prompt": prompt, "answers": answers, "verdict": verdict}
    return VoteRequest.model_validate(body | {"sampling": {"temperature": 0.5}} | changes)


@pytest.mark.parametrize(
    ("verdict", "kept"), [("first", "A"), ("second", "B"), ("tie", "tie"), ("both_bad", "both_bad")]
)
def test_a_vote_is_kept_as_it_was_shown(store: PreferenceStore, verdict: str, kept: str) -> None:
    receipt = keep_vote(store, vote(verdict))
    [judgement] = store.judgements()
    assert judgement.id == receipt.judgement_id
    assert (judgement.annotator, judgement.verdict, judgement.left) == ("ann", kept, "A")
    [pair] = store.pairs().values()
    assert [message.content for message in pair.prompt] == ["Be brief.", "Why?"]
    assert [(side.source, side.text, side.seed) for side in (pair.a, pair.b)] == [
        ("base", "Since", 3), ("tuned", "Because.", None),
    ]  # fmt: skip
    assert pair.sampling == {"temperature": 0.5}


def test_what_was_shown_first_stands_left_whoever_votes(store: PreferenceStore) -> None:
    names = [f"annotator {n}" for n in range(12)]
    for name in names:
        keep_vote(store, vote(name=name))
    assert [judgement.left for judgement in store.judgements()] == ["A"] * len(names)


def test_a_retry_counts_once_and_another_vote_is_refused(store: PreferenceStore) -> None:
    first = keep_vote(store, vote())
    assert keep_vote(store, vote(name="Ann")) == first
    with pytest.raises(Conflict, match="has judged it"):
        keep_vote(store, vote("tie"))
    assert len(store.judgements()) == 1


def test_a_conversation_that_is_none_is_refused(store: PreferenceStore) -> None:
    with pytest.raises(ConfigError):
        keep_vote(store, vote(prompt=[Turn(role="assistant", content="Hm.")]))
    with pytest.raises(ConfigError, match="printable"):
        keep_vote(store, vote(name="\n"))
    assert store.judgements() == []
