"""Simulated annotators: programs that vote over the comparison page's HTTP interface."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from foundling.base.config import ConfigError
from foundling.preferences.client import Client, HttpError
from foundling.preferences.opinions import Annotator, BlindPair, Opinion, PageVerdict
from foundling.preferences.records import RATINGS, Kind
from foundling.preferences.tastes import Taste
from foundling.text.chat import Message

WAIT, LONGEST_WAIT = 0.1, 2.0  # seconds while the next item is being made
PATIENCE = 600.0  # seconds without a new item before giving up


class Simulated:
    """Votes by a taste; a share `noise` of its votes is random.

    Its votes are a function of the seed and of the items in their order.
    """

    def __init__(self, taste: Taste, *, noise: float = 0.0, seed: int = 0) -> None:
        if not 0 <= noise <= 1:
            raise ConfigError(f"noise = {noise}: must be from 0 to 1.")
        self._taste, self._noise = taste, noise
        self._rng = Random(f"{seed}/simulated/{taste.name}")

    def compare(self, shown: BlindPair) -> Opinion:
        left, right = self._scores(shown)
        sides: tuple[PageVerdict, PageVerdict] = ("left", "right")
        # Both are drawn for every item: noise on one does not shift the draws of the others.
        erring, side = self._rng.random() < self._noise, sides[self._rng.random() < 0.5]
        if erring:
            return Opinion(side, "at random")
        if left != right:
            verdict = sides[right > left]
        elif self._taste.scale is not None and left == self._taste.scale[0]:
            verdict = "both_bad"
        else:
            verdict = "tie"
        return Opinion(verdict, f"{self._taste.name}: {left:g} and {right:g}")

    def rate(self, shown: BlindPair) -> tuple[int, int]:
        if self._taste.scale is None:
            raise ConfigError(f"{self._taste.name}: compares and does not rate; leave --rate out.")
        worst, best = self._taste.scale
        left, right = (
            self._rating((score - worst) / (best - worst)) for score in self._scores(shown)
        )
        return left, right

    def _rating(self, share: float) -> int:
        erring, drawn = self._rng.random() < self._noise, self._rng.random()
        share = drawn if erring else share
        return RATINGS[min(int(share * len(RATINGS)), len(RATINGS) - 1)]

    def _scores(self, shown: BlindPair) -> tuple[float, float]:
        score = self._taste.score
        return score(shown.prompt, shown.left), score(shown.prompt, shown.right)


@dataclass
class VotingReport:
    """Counts of an annotator's votes."""

    name: str
    kind: Kind
    num_votes: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)  # by the sides of the page
    ratings: Counter[str] = field(default_factory=Counter)  # of both answers
    num_conflicts: int = 0  # votes refused because another one is kept
    done: bool = False  # nothing was left; else the limit was reached
    progress: dict[str, Any] = field(default_factory=dict)  # as reported by the server

    def count(self, vote: Mapping[str, Any]) -> None:
        """Count a vote that the server has accepted."""
        self.num_votes += 1
        if self.kind == "comparison":
            self.verdicts[vote["verdict"]] += 1
        else:
            self.ratings.update(str(rating) for rating in vote["ratings"].values())

    def lines(self) -> list[str]:
        """The report for people."""
        said = self.verdicts if self.kind == "comparison" else self.ratings
        counts = ", ".join(f"{what}: {n:,}" for what, n in sorted(said.items()))
        end = "nothing is left" if self.done else "the limit is reached"
        lines = [f"{self.name}: {self.num_votes:,} votes ({counts or 'none'}); {end}"]
        if self.num_conflicts:
            lines.append(f"refused because another vote is kept: {self.num_conflicts:,}")
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "votes": self.num_votes,
            "verdicts": dict(self.verdicts),
            "ratings": dict(sorted(self.ratings.items())),
            "conflicts": self.num_conflicts,
            "done": self.done,
            "progress": self.progress,
        }


def vote_on_all(
    url: str,
    name: str,
    annotator: Annotator,
    *,
    kind: Kind = "comparison",
    limit: int | None = None,
    patience: float = PATIENCE,
    tell: Callable[[VotingReport], None] = lambda report: None,
) -> VotingReport:
    """Join the comparison page at `url` as a simulated annotator, and vote until it is done.

    Args:
        limit: the most votes.
        patience: seconds to wait for an item that is being made.
        tell: called after each vote.

    Raises:
        HttpError: the server refuses, fails, or takes too long.
    """
    with Client(url) as door:
        token = _text(door.post("/api/annotators", {"name": name, "simulated": True}), "token", url)
    report, refused, waited = VotingReport(name, kind), set[str](), 0.0
    with Client(url, token=token) as page:
        while limit is None or report.num_votes < limit:
            found = page.post("/api/next", {"kind": kind, "holding": []})
            report.progress = found.get("progress") or {}
            item = found.get("item")
            if item is None:
                if found.get("state") == "done":
                    report.done = True
                    break
                if waited >= patience:
                    raise HttpError(f"{url}: no item in {patience:g} s; is it still at work?")
                wait = min(max(WAIT, waited / 4), LONGEST_WAIT)
                time.sleep(wait)
                waited += wait
                continue
            waited = 0.0
            key = _text(item, "key", url)
            vote = _vote(item, found.get("rubric_version"), annotator, kind)
            try:
                page.post("/api/votes", vote)
            except HttpError as error:
                if error.status != 409 or key in refused:
                    raise
                refused.add(key)
                report.num_conflicts += 1
                continue
            report.count(vote)
            tell(report)
    return report


def _vote(
    item: Mapping[str, Any], rubric_version: int | None, annotator: Annotator, kind: Kind
) -> dict[str, Any]:
    began = time.perf_counter()
    prompt = tuple(Message(message["role"], message["content"]) for message in item["prompt"])
    shown = BlindPair(prompt, item["left"], item["right"])
    said: dict[str, Any] = {"verdict": None, "ratings": None, "reason": ""}
    if kind == "comparison":
        opinion = annotator.compare(shown)
        said |= {"verdict": opinion.verdict, "reason": opinion.reason}
    else:
        left, right = annotator.rate(shown)
        said["ratings"] = {"left": left, "right": right}
    return {
        "key": item["key"],
        **said,
        "strength": None,
        "milliseconds": round(1000 * (time.perf_counter() - began)),
        "rubric_version": rubric_version,
    }


def _text(found: dict[str, Any], name: str, url: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise HttpError(f'{url}: no "{name}" in its answer; is it a comparison page?')
    return value
