"""Who wins: win rates, and Bradley–Terry strengths with ties, with their intervals."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

from foundling.statistics.wilson import Interval, wilson

Array = npt.NDArray[np.float64]
PENALTY = 0.01
"""Weight of the squared scores where the maximum is at infinity: a prior of width 10."""


@dataclass(frozen=True)
class Outcome:
    """One comparison: `score` is 1 where `first` won, 0 where `second` did, 0.5 for a tie.

    The bootstrap draws the outcomes of one `item` together.
    """

    first: str
    second: str
    score: float
    item: int


@dataclass(frozen=True)
class Ranking:
    """Scores are natural logarithms of strengths, of mean 0.

    `tie` is Davidson's ν: between equals, ν / (2 + ν) of comparisons are ties. Where `determined`
    is False the outcomes alone have no finite maximum (someone never won, or was never compared
    with the others): a weak prior holds the scores, and there are no intervals.
    """

    scores: dict[str, float]
    intervals: dict[str, Interval]
    tie: float
    determined: bool
    num_outcomes: int
    num_items: int


def rank(
    outcomes: Sequence[Outcome], *, bootstrap: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Ranking:
    """Maximum likelihood strengths, with percentile intervals from `bootstrap` draws of items.

    The prior also holds draws that have no finite maximum, so a far end of an interval near 9
    means "unknown", not a number.

    P(i beats j) : P(tie) : P(j beats i) = πᵢ : ν√(πᵢπⱼ) : πⱼ.

    Source: Davidson (1970), On extending the Bradley–Terry model to accommodate ties in paired
    comparison experiments, equation 2.
    """
    names = sorted({name for o in outcomes for name in (o.first, o.second)})
    if not names:
        return Ranking({}, {}, 0.0, False, 0, 0)
    counts = _counts_by_item(outcomes, names)
    total = counts.sum(0)
    best = _fit(total)
    determined = _is_determined(total)
    intervals: dict[str, Interval] = {}
    if bootstrap and determined:
        drawn = _bootstrap(counts, best, bootstrap, seed)
        edges = 50 * (1 - confidence), 50 * (1 + confidence)
        bounds = np.percentile(drawn, edges, axis=0).T.tolist()
        intervals = {name: (low, high) for name, (low, high) in zip(names, bounds, strict=True)}
    scores = {name: float(score) for name, score in zip(names, best[:-1], strict=True)}
    tie = math.exp(best[-1]) if _num_ties(total) else 0.0
    return Ranking(scores, intervals, tie, determined, len(outcomes), len(counts))


def _counts_by_item(outcomes: Sequence[Outcome], names: Sequence[str]) -> Array:
    """`[item, i, j]`: how often i beat j; ties of i < j stand in `[item, k + i, j]`."""
    place = {name: index for index, name in enumerate(names)}
    items = {item: index for index, item in enumerate(dict.fromkeys(o.item for o in outcomes))}
    k = len(names)
    counts = np.zeros((len(items), 2 * k, k))
    for outcome in outcomes:
        i, j = place[outcome.first], place[outcome.second]
        assert i != j
        assert outcome.score in (0, 0.5, 1)
        if outcome.score == 0.5:
            row, column = k + min(i, j), max(i, j)
        else:
            row, column = (i, j) if outcome.score == 1 else (j, i)
        counts[items[outcome.item], row, column] += 1
    return counts


def _num_ties(counts: Array) -> float:
    return float(counts[counts.shape[1] :].sum())


def _is_determined(counts: Array) -> bool:
    """Whether a finite maximum exists: wins and ties connect every source to every other.

    Source: Ford (1957), Solution of a ranking problem from binary comparisons, assumption; a tie
    counts as half a win each way (Davidson 1970, section 3).
    """
    k = counts.shape[1]
    wins, ties = counts[:k], counts[k:]
    chains = sparse.csr_matrix(wins + ties + ties.T)
    parts, _ = sparse.csgraph.connected_components(chains, directed=True, connection="strong")
    return bool(parts == 1) and bool(wins.sum() > 0)


def _fit(counts: Array, start: Array | None = None) -> Array:
    """The scores, and log ν at the end (0 and without effect where nothing is tied)."""
    k = counts.shape[1]
    first, second = np.triu_indices(k, 1)
    wins, losses = counts[first, second], counts[second, first]
    ties = counts[k + first, second]
    compared = wins + losses + ties
    with_ties = bool(ties.sum())
    penalty = 0.0 if _is_determined(counts) else PENALTY
    # Each outcome's logit is linear in (scores, log ν): rows of a design for win, tie, loss.
    pairs = np.arange(len(first))
    design = np.zeros((3, len(first), k + 1))
    design[0, pairs, first] = design[2, pairs, second] = 1
    design[1, pairs, first] = design[1, pairs, second] = 0.5
    design[1, :, k] = 1
    seen = np.stack([wins, ties, losses])
    allowed = np.zeros((3, 1)) if with_ties else np.array([[0.0], [-np.inf], [0.0]])
    # The mean of the scores is free, and so is log ν without ties: only this fixes them.
    hold = np.zeros((k + 1, k + 1))
    hold[:k, :k] = 1 / k
    hold[k, k] = 0.0 if with_ties else 1.0
    hold += penalty * np.eye(k + 1)

    def loss(x: Array) -> tuple[float, Array]:
        logits = design @ x + allowed
        top = logits.max(0)
        log_sum = top + np.log(np.exp(logits - top).sum(0))
        chances = np.exp(logits - log_sum)
        value = (compared * log_sum).sum() - (seen * (design @ x)).sum() + x @ hold @ x / 2
        gradient = np.einsum("op,opx->x", chances * compared - seen, design) + hold @ x
        return float(value), gradient

    def curvature(x: Array) -> Array:
        logits = design @ x + allowed
        logits -= logits.max(0)
        chances = np.exp(logits) / np.exp(logits).sum(0)
        mean = np.einsum("op,opx->px", chances, design)
        square = np.einsum("op,opx,opy->xy", chances * compared, design, design)
        square -= np.einsum("p,px,py->xy", compared, mean, mean)
        return np.asarray(square + hold)

    x = np.zeros(k + 1) if start is None else start
    result = optimize.minimize(
        loss, x, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-7}
    )
    scores = np.asarray(result.x)
    scores[:k] -= scores[:k].mean()
    return scores


def _bootstrap(counts: Array, start: Array, draws: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    n = len(counts)
    # Items with equal outcomes are drawn as one.
    flat, inverse = np.unique(counts.reshape(n, -1), axis=0, return_inverse=True)
    shares = np.bincount(inverse.ravel(), minlength=len(flat)) / n
    drawn = np.zeros((draws, len(start) - 1))
    for place in range(draws):
        weights = rng.multinomial(n, shares)
        drawn[place] = _fit((weights @ flat).reshape(counts.shape[1:]), start)[:-1]
    return drawn


@dataclass(frozen=True)
class WinRate:
    """How often `first` beat `second`: `rate` is of the wins and losses, ties left out."""

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    rate: float | None
    interval: Interval | None


def win_rates(outcomes: Sequence[Outcome], confidence: float = 0.95) -> list[WinRate]:
    """The win rate of each pair of sources with Wilson's interval; an item counts once, averaged.

    Several votes on one item are not independent: counted one by one they would make the
    interval too narrow.
    """
    scores: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for o in outcomes:
        swap = o.first > o.second
        names = (o.second, o.first) if swap else (o.first, o.second)
        scores[names][o.item].append(1 - o.score if swap else o.score)
    rates = []
    for (first, second), items in sorted(scores.items()):
        means = [sum(given) / len(given) for given in items.values()]
        wins, losses = sum(mean > 0.5 for mean in means), sum(mean < 0.5 for mean in means)
        decided = wins + losses
        rate = wins / decided if decided else None
        interval = wilson(wins, decided, confidence)
        ties = len(means) - decided
        rates.append(WinRate(first, second, wins, losses, ties, rate, interval))
    return rates
