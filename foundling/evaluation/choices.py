"""Choosing among alternatives by their likelihood: sum, by length, calibrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from foundling.evaluation.findings import Answered, Baseline, Good, Metric
from foundling.evaluation.scorer import Pair, Scorer, said
from foundling.evaluation.tasks import key_of

By = Literal["sum", "length", "calibrated"]
BY_WAY: dict[By, str] = {"sum": "", "length": ", by length", "calibrated": ", calibrated"}
"""What each way adds to a title."""


@dataclass(frozen=True)
class Choice:
    """An item with alternatives, of which one is right.

    A multiple choice has one prompt and several continuations, a schema several prompts and one
    continuation. `neutral` are the same continuations behind a prompt that says nothing, for
    calibration. `group` names what items have in common that are not independent.
    """

    id: str
    pairs: tuple[Pair, ...]
    gold: int
    group: str = ""
    neutral: tuple[Pair, ...] = ()

    def in_drawn_order(self) -> "Choice":
        """The item with its alternatives in an order drawn by its id: no position is always right.

        The order is nothing to a model that scores each alternative alone; the rule "always the
        first one", to which it is compared, would always be right.
        """
        order = list(range(len(self.pairs)))
        Random(f"order {self.id}").shuffle(order)
        pairs, neutral = (
            tuple(of[index] for index in order) if of else () for of in (self.pairs, self.neutral)
        )
        return replace(self, pairs=pairs, gold=order.index(self.gold), neutral=neutral)


def clustered(items: Sequence[Choice]) -> list[Choice]:
    """The items, those of one content in one group, with all that either was grouped with.

    Content is compared without case, extra white space and the composition of accents, so that
    an item that a file holds 40 times counts once for the interval.
    """
    leader: dict[str, str] = {}

    def find(group: str) -> str:
        while leader.setdefault(group, group) != group:
            group = leader[group]
        return group

    first: dict[tuple[str, ...], str] = {}
    for item in items:
        content = tuple(sorted(key_of(text_of(pair)) for pair in item.pairs))
        own = find(item.group or item.id)
        leader[own] = find(first.setdefault(content, own))
    return [replace(item, group=find(item.group or item.id)) for item in items]


@dataclass(frozen=True)
class Chosen:
    """The scores of an item's alternatives by each way, and the best one by each."""

    item: Choice
    scores: Mapping[By, tuple[float, ...]]

    def best(self, by: By = "sum") -> int:
        """The alternative with the highest score, of equals the first."""
        scores = self.scores[by]
        return scores.index(max(scores))

    def drawn(self, by: By = "sum") -> list[float]:
        """The probability that each alternative is taken, where equals are drawn from."""
        best = [score == max(self.scores[by]) for score in self.scores[by]]
        return [is_best / sum(best) for is_best in best]

    def is_right(self, by: By = "sum") -> float:
        """1 where the right one alone is best; among n equals 1/n, as if drawn."""
        return self.drawn(by)[self.item.gold]


def choose(scorer: Scorer, items: Sequence[Choice]) -> list[Chosen]:
    """The items whose alternatives all fit the context, in their order, scored.

    `sum` is log p(continuation | prompt); `length` divides it by the continuation's bytes;
    `calibrated` takes away log p(continuation | neutral prompt), for items that have one.

    Source: Brown et al. 2020, section 2.4 (by length, by an "Answer:" context); Holtzman et al.
    2021, Surface Form Competition (calibrated: pointwise mutual information).
    """
    pairs = list(dict.fromkeys(pair for item in items for pair in (*item.pairs, *item.neutral)))
    found = dict(zip(pairs, scorer.score(pairs), strict=True))
    chosen = []
    for item in items:
        logs = [found[pair] for pair in item.pairs]
        neutral = [found[pair] for pair in item.neutral]
        sums = [scored.log_prob for scored in logs if scored is not None]
        priors = [scored.log_prob for scored in neutral if scored is not None]
        if len(sums) < len(logs) or len(priors) < len(neutral):
            continue
        scores: dict[By, tuple[float, ...]] = {"sum": tuple(sums)}
        lengths = [len(continuation.encode()) for _, continuation in item.pairs]
        scores["length"] = tuple(s / n for s, n in zip(sums, lengths, strict=True))
        if priors:
            scores["calibrated"] = tuple(s - p for s, p in zip(sums, priors, strict=True))
        chosen.append(Chosen(item, scores))
    return chosen


def answered(name: str, chosen: Sequence[Chosen]) -> list[Answered]:
    """The choices of a set, as the file of items has them."""
    ways = ways_of(chosen)
    return [
        Answered(
            name,
            one.item.id,
            tuple(dict.fromkeys(prompt for prompt, _ in one.item.pairs)),
            one.is_right(),
            choices=tuple(after for _, after in one.item.pairs),
            scores={way: one.scores[way] for way in ways},
            chosen=one.best(),
            gold=one.item.gold,
        )
        for one in chosen
    ]


def ways_of(chosen: Sequence[Chosen]) -> list[By]:
    """The ways that apply to these items: a schema has no scores by length."""
    ways: list[By] = ["sum"]
    if any(len({after for _, after in one.item.pairs}) > 1 for one in chosen):
        ways.append("length")
    if all("calibrated" in one.scores for one in chosen):
        ways.append("calibrated")
    return ways


def accuracy(
    key: str,
    title: str,
    chosen: Sequence[Chosen],
    by: By = "sum",
    *,
    good: Good = "high",
    headline: bool = False,
    baseline: Baseline | None = None,
    note: str = "",
) -> Metric:
    """How many choices are right, beside a guess and `baseline`, or rules that know no language."""
    items = [one.item for one in chosen]
    return Metric(
        key,
        title,
        {one.item.id: one.is_right(by) for one in chosen},
        {item.id: item.group or item.id for item in items},
        chance=chance(items),
        baseline=baseline or blind(items),
        good=good,
        headline=headline,
        note=note,
    )


def chance(items: Sequence[Choice]) -> float:
    """The accuracy of a guess."""
    return sum(1 / len(item.pairs) for item in items) / len(items)


def blind(items: Sequence[Choice]) -> Baseline:
    """The best accuracy of rules that know no language: a position, the longest, the shortest one.

    Of equally long ones each counts as guessed.
    """
    rules: dict[str, float] = {}
    for index in range(max(len(item.pairs) for item in items)):
        hits = sum(item.gold == index for item in items)
        rules[f"always alternative {index + 1}"] = hits / len(items)
    for rule, better in (("always the longest", max), ("always the shortest", min)):
        total = 0.0
        for item in items:
            lengths = [len(text_of(pair)) for pair in item.pairs]
            best = [index for index, n in enumerate(lengths) if n == better(lengths)]
            total += item.gold in best and 1 / len(best)
        rules[rule] = total / len(items)
    rule = max(rules, key=lambda name: rules[name])
    return Baseline(rules[rule], rule)


def text_of(pair: Pair) -> str:
    """Prompt and continuation, as they read."""
    prompt, continuation = pair
    return said(prompt) + continuation
