"""Plain records of what is compared, shown and judged."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from foundling.text.chat import Conversation

Side = Literal["A", "B"]
Verdict = Literal["A", "B", "tie", "both_bad", "skip"]
Kind = Literal["comparison", "rating"]
EventKind = Literal["comparison", "rating", "undo"]
Who = Literal["all", "people", "simulated"]

WHO: tuple[Who, ...] = ("all", "people", "simulated")
SIDES: tuple[Side, ...] = ("A", "B")
VERDICTS: tuple[Verdict, ...] = ("A", "B", "tie", "both_bad", "skip")
KINDS: tuple[Kind, ...] = ("comparison", "rating")
RATINGS = range(1, 8)
STRENGTHS = range(1, 4)


def digest(value: Any) -> str:
    """A hash of plain values that does not depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain_messages(messages: Conversation) -> list[dict[str, str]]:
    """Roles and contents as plain values; pairs have nothing else in their prompts."""
    return [{"role": message.role, "content": message.content} for message in messages]


@dataclass(frozen=True)
class Answer:
    """One side of a pair; `source` names the model, `checkpoint` is the hash of its weights."""

    text: str
    source: str
    checkpoint: str | None = None
    tokens: tuple[int, ...] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; "A" and "B" name them wherever they are shown.

    `propensity` is the probability with which `strategy` brought these two sources together;
    `gold` is the verdict that a careful annotator is known to give.
    """

    prompt: Conversation
    a: Answer
    b: Answer
    prompt_source: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    gold: Verdict | None = None
    strategy: str = "given"
    propensity: float = 1.0

    @property
    def digest(self) -> str:
        """A hash of everything in the pair: equal content is the same pair."""
        return digest({**asdict(self), "prompt": plain_messages(self.prompt)})

    @property
    def prompt_digest(self) -> str:
        return digest([[message.role, message.content] for message in self.prompt])


@dataclass(frozen=True)
class Item:
    """A pair as one annotator is shown it; `key` is the idempotency key of the vote on it."""

    key: str
    annotator: str
    pair_id: int
    pair: Pair
    kind: Kind
    left: Side
    repeat_of: int | None
    expires: float

    @property
    def right(self) -> Side:
        return "B" if self.left == "A" else "A"

    def answer(self, side: Side) -> Answer:
        return self.pair.a if side == "A" else self.pair.b


@dataclass(frozen=True)
class Vote:
    """An annotator's vote on an item; `verdict` names answers, not sides of the page.

    A comparison has a verdict, a rating has `ratings` of answers A and B, 1 to 7; either may be
    skipped.
    """

    key: str
    annotator: str
    verdict: Verdict | None = None
    ratings: tuple[int, int] | None = None
    strength: int | None = None
    reason: str = ""
    milliseconds: int | None = None
    rubric_version: int | None = None


@dataclass(frozen=True)
class Receipt:
    """The store holds the vote; the same key brings the same receipt."""

    key: str
    judgement_id: int
    created: float


@dataclass(frozen=True)
class Judgement:
    """One event: a comparison, a rating, or the undoing of one (`supersedes`)."""

    id: int
    key: str
    kind: EventKind
    annotator: str
    simulated: bool
    pair_id: int
    left: Side
    verdict: Verdict | None
    ratings: tuple[int, int] | None
    strength: int | None
    reason: str
    milliseconds: int | None
    rubric_version: int | None
    repeat_of: int | None
    supersedes: int | None
    strategy: str
    propensity: float
    created: float


@dataclass(frozen=True)
class Progress:
    """How far an annotator is: standing votes of each sort, and items that wait for more."""

    judged: int
    skipped: int
    repeats: int
    undone: int
    waiting: int


@dataclass(frozen=True)
class Rubric:
    version: int
    text: str
    created: float
