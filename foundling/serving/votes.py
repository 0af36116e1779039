"""Votes between the two answers of the chat page, kept in a preferences database."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from foundling.preferences.checks import Conflict
from foundling.preferences.records import Answer, Pair, Verdict, Vote
from foundling.preferences.store import PreferenceStore
from foundling.serving.bodies import Body, Element, Listed
from foundling.text.chat import Message

_VERDICTS: dict[str, Verdict] = {"first": "A", "second": "B", "tie": "tie", "both_bad": "both_bad"}


class Turn(Element):
    role: Literal["system", "user", "assistant"]
    content: str


class Side(Element):
    """One of the two answers, as it was shown; no seed: a person has edited it."""

    model: str
    text: str
    seed: int | None = None


class VoteRequest(Body):
    annotator: str
    prompt: Listed[Turn]
    answers: tuple[Side, Side]
    sampling: dict[str, Any] = Field(default_factory=dict)
    verdict: Literal["first", "second", "tie", "both_bad"]


class VoteResponse(BaseModel):
    judgement_id: int


def keep_vote(store: PreferenceStore, vote: VoteRequest) -> VoteResponse:
    """Keep the pair and the vote on it; the same vote again is the one that is kept.

    Raises:
        Conflict: the annotator has voted otherwise on the same answers.
        ConfigError: the prompt or the annotator's name is none.
    """
    a, b = (Answer(side.text, side.model, seed=side.seed) for side in vote.answers)
    prompt = tuple(Message(turn.role, turn.content) for turn in vote.prompt)
    verdict = _VERDICTS[vote.verdict]
    store.add_annotator(vote.annotator)
    pair_id = store.add_pair(Pair(prompt, a, b, prompt_source="chat", sampling=vote.sampling))
    try:
        item = store.lease_pair(vote.annotator, pair_id, left="A")
    except Conflict:
        name = store.known_as(vote.annotator)
        for kept in store.judgements():
            if (kept.pair_id, kept.annotator, kept.verdict) == (pair_id, name, verdict):
                return VoteResponse(judgement_id=kept.id)
        raise
    receipt = store.record(Vote(item.key, vote.annotator, verdict))
    return VoteResponse(judgement_id=receipt.judgement_id)
