"""Requests and responses of the HTTP interface, checked: left and right, never a source."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foundling.preferences.checks import unicode
from foundling.preferences.records import Item, Kind, Progress, Rubric, Side, Verdict, Vote
from foundling.web.markdown import render

State = Literal["item", "preparing", "done"]
PlaceVerdict = Literal["left", "right", "tie", "both_bad", "skip"]
Rating = Annotated[int, Field(ge=1, le=7)]


class Body(BaseModel):
    """Unknown keys are an error: nothing that is sent is silently dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JoinRequest(Body):
    """`new` refuses a name that is known, whose earlier link would otherwise end."""

    name: str = Field(max_length=100)
    simulated: bool = False
    new: bool = False


class JoinResponse(Body):
    name: str
    token: str


class Me(Body):
    """Whose token this is; `database` tells this collection from another at the same address."""

    name: str
    database: str
    kinds: list[Kind]
    may_edit_rubric: bool


class NextRequest(Body):
    """`holding` are the keys of items that are not to be given again now."""

    kind: Kind = "comparison"
    holding: list[str] = Field(default=[], max_length=100)


class Turn(Body):
    role: str
    content: str


class PageItem(Body):
    """An item as an annotator sees it: nothing says whose an answer is or why it is shown."""

    key: str
    kind: Kind
    prompt: list[Turn]
    left: str
    right: str

    @classmethod
    def of(cls, item: Item) -> Self:
        return cls(
            key=item.key,
            kind=item.kind,
            prompt=[
                Turn(role=turn.role, content=unicode(turn.content)) for turn in item.pair.prompt
            ],
            left=unicode(item.answer(item.left).text),
            right=unicode(item.answer(item.right).text),
        )


class RenderedItem(PageItem):
    """The same item with every text as HTML, made from its Markdown."""

    @classmethod
    def of(cls, item: Item) -> Self:
        shown = PageItem.of(item)
        prompt = [Turn(role=turn.role, content=render(turn.content)) for turn in shown.prompt]
        texts = {"left": render(shown.left), "right": render(shown.right)}
        return cls(key=shown.key, kind=shown.kind, prompt=prompt, **texts)


class ProgressCounts(Body):
    """How far the annotator is; `waiting` items are still to come."""

    judged: int
    skipped: int
    repeats: int
    undone: int
    waiting: int

    @classmethod
    def of(cls, progress: Progress) -> Self:
        return cls(**vars(progress))


class NextResponse(Body):
    """An item, or why there is none; `notice` says what went wrong while answers were made."""

    item: PageItem | None
    state: State
    progress: ProgressCounts
    rubric_version: int | None
    notice: str | None


class Ratings(Body):
    left: Rating
    right: Rating


class VoteRequest(Body):
    """A vote on the item with this key, which is its idempotency key too."""

    key: str
    verdict: PlaceVerdict | None = None
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    reason: str = Field(default="", max_length=10_000)
    milliseconds: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    rubric_version: int | None = None
    ratings: Ratings | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.verdict is None) == (self.ratings is None):
            raise ValueError("a vote has either a verdict or ratings, not both and not none")
        return self

    def vote(self, annotator: str, left: Side) -> Vote:
        """The vote in terms of answers A and B, by which of them stood left."""
        right: Side = "B" if left == "A" else "A"
        verdict: Verdict | None
        match self.verdict:
            case "left":
                verdict = left
            case "right":
                verdict = right
            case other:
                verdict = other
        ratings = None
        if self.ratings is not None:
            both = {left: self.ratings.left, right: self.ratings.right}
            ratings = (both["A"], both["B"])
        return Vote(
            self.key,
            annotator,
            verdict,
            ratings,
            self.strength,
            self.reason.strip(),
            self.milliseconds,
            self.rubric_version,
        )


class VoteResponse(Body):
    """The vote is on the disk."""

    key: str
    judgement_id: int
    created: float
    progress: ProgressCounts


class UndoRequest(Body):
    """`key` is the undo's own idempotency key."""

    key: str = Field(max_length=100)


class UndoResponse(Body):
    judgement_id: int
    item: PageItem | None


class RubricText(Body):
    text: str = Field(max_length=20_000)


class RubricVersion(Body):
    version: int | None
    text: str
    created: float | None

    @classmethod
    def of(cls, rubric: Rubric | None) -> Self:
        if rubric is None:
            return cls(version=None, text="", created=None)
        return cls(version=rubric.version, text=unicode(rubric.text), created=rubric.created)


class Rubrics(RubricVersion):
    """The newest version, and the ones before it, newest first."""

    earlier: list[RubricVersion]


Statistics = dict[str, Any]
