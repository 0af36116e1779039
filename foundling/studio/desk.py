"""What annotators may do, by name: join, get items, vote, undo, read and write the rubric."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from foundling.base.config import ConfigError
from foundling.preferences.checks import Conflict, same_name
from foundling.preferences.leasing import Leasing
from foundling.preferences.pairing import Strategy
from foundling.preferences.records import Kind
from foundling.preferences.store import PreferenceStore
from foundling.studio.bodies import (
    JoinRequest,
    JoinResponse,
    Me,
    NextResponse,
    PageItem,
    ProgressCounts,
    RenderedItem,
    Rubrics,
    RubricVersion,
    UndoResponse,
    VoteRequest,
    VoteResponse,
)
from foundling.studio.production import Production
from foundling.studio.scores import Scores

# Shown to annotators: the error itself may name a source and goes to the terminal only.
NOTICE = "Preparing answers stopped with an error; the terminal of this server says which."


class Forbidden(Exception):
    """This annotator, or somebody without a link, may not do this."""


@dataclass
class Desk:
    """A store and how its items are given out. Calls block; threads may share a desk.

    If `invited`, only `leads` may change the rubric and make links for others.
    """

    store: PreferenceStore
    settings: Leasing = field(default_factory=Leasing)
    kinds: tuple[Kind, ...] = ("comparison",)
    invited: bool = False
    leads: frozenset[str] = frozenset()  # by `same_name`
    production: Production | None = None

    def __post_init__(self) -> None:
        self._scores = Scores(self.store)

    # ------------------------------------------------------------------ who

    def join(self, body: JoinRequest, by: str | None = None) -> JoinResponse:
        """A token for the name; a known name's earlier token ends.

        One annotator has one link: two people who take the same name do not vote as one
        unnoticed, as the earlier page says that it was replaced.

        Args:
            by: the annotator who asks, if it is one.

        Raises:
            Forbidden: only the links that were printed work, and it is no lead who asks.
            Conflict: the name is known, and `body` wants a new one or another sort of annotator.
        """
        if not self._may_lead(by):
            raise Forbidden(
                "this server is by invitation: use the link that you were given, or ask for one."
            )
        known = self.store.known_as(body.name)
        if body.new and known is not None:
            raise Conflict(f"{known} has been here before.")
        self.store.add_annotator(body.name, simulated=body.simulated)
        token = self.store.issue_token(body.name)
        return JoinResponse(name=self.store.known_as(body.name) or body.name, token=token)

    def me(self, annotator: str) -> Me:
        return Me(
            name=annotator,
            database=self.store.identity,
            kinds=list(self.kinds),
            may_edit_rubric=self._may_lead(annotator),
        )

    def _may_lead(self, annotator: str | None) -> bool:
        return not self.invited or (annotator is not None and same_name(annotator) in self.leads)

    # ------------------------------------------------------------------ items and votes

    def next(self, annotator: str, kind: Kind, holding: Collection[str]) -> NextResponse:
        """The next item for the annotator, or why there is none."""
        self._check_kind(kind)
        # Checked first, so that a pair added before the lease is not mistaken for the end.
        preparing = self.production is not None and self.production.running
        item = self.store.lease_next(
            annotator,
            self.settings,
            kind=kind,
            scores=self._scores_for(self.settings.strategy),
            holding=holding,
        )
        newest = self.store.rubric()
        return NextResponse(
            item=PageItem.of(item) if item else None,
            state="item" if item else "preparing" if preparing else "done",
            progress=self.progress(annotator, kind),
            rubric_version=newest.version if newest else None,
            notice=NOTICE if self.production is not None and self.production.failed else None,
        )

    def rendered(self, annotator: str, key: str) -> RenderedItem:
        """An item that the annotator has and has not judged, as HTML."""
        return RenderedItem.of(self.store.open_item(annotator, key))

    def vote(self, annotator: str, cast: VoteRequest) -> VoteResponse:
        """Keep the vote; once this returns it is on the disk.

        Raises:
            Conflict: something else is kept under its key, or the item is another's.
            ConfigError: it is no vote on an item that was given.
        """
        left, kind = self.store.shown_as(cast.key)
        receipt = self.store.record(cast.vote(annotator, left))
        return VoteResponse(
            key=receipt.key,
            judgement_id=receipt.judgement_id,
            created=receipt.created,
            progress=self.progress(annotator, kind),
        )

    def undo(self, annotator: str, key: str) -> UndoResponse:
        """Take back the annotator's last judgement and give its item again."""
        receipt = self.store.undo(annotator, key, settings=self.settings)
        item = self.store.given_back(key)
        return UndoResponse(
            judgement_id=receipt.judgement_id, item=PageItem.of(item) if item else None
        )

    def progress(self, annotator: str, kind: Kind) -> ProgressCounts:
        self._check_kind(kind)
        return ProgressCounts.of(self.store.progress(annotator, self.settings, kind=kind))

    # ------------------------------------------------------------------ the rubric

    def rubrics(self) -> Rubrics:
        newest = RubricVersion.of(self.store.rubric())
        versions = (
            self.store.rubric(version) for version in range((newest.version or 1) - 1, 0, -1)
        )
        earlier = [RubricVersion.of(version) for version in versions if version is not None]
        return Rubrics(**newest.model_dump(), earlier=earlier)

    def set_rubric(self, annotator: str, text: str) -> RubricVersion:
        """The new version, or the newest if it has this text already.

        Raises:
            Forbidden: it is no lead who asks.
        """
        if not self._may_lead(annotator):
            raise Forbidden("the rubric is everybody's: only a lead's link may change it.")
        if not text.strip():
            raise ConfigError("text is blank: say what makes an answer better.")
        return RubricVersion.of(self.store.rubric(self.store.set_rubric(text.strip())))

    # ------------------------------------------------------------------ parts

    def _check_kind(self, kind: Kind) -> None:
        if kind not in self.kinds:
            raise ConfigError(
                f'kind = "{kind}": this server collects {" and ".join(self.kinds)} alone; start it '
                f"with --kind {kind} or --kind both."
            )

    def _scores_for(self, strategy: Strategy) -> Mapping[str, float] | None:
        return None if strategy == "random" else self._scores.now()
