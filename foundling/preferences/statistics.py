"""Statistics of the judgements and of their reliability, as one dict of plain values."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from foundling.preferences import agreement, ranking
from foundling.preferences.agreement import Share
from foundling.preferences.records import VERDICTS, Judgement, Kind, Pair
from foundling.preferences.selection import Selection
from foundling.preferences.store import PreferenceStore

_SCORES = {"A": 1.0, "B": 0.0, "tie": 0.5, "both_bad": 0.5}  # both bad: neither is better


def statistics(
    store: PreferenceStore,
    *,
    selection: Selection | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Every figure with its n and its interval; None where it is not defined.

    Results and agreement count first votes on ordinary items; repeats give self-consistency,
    gold items accuracy, and neither enters the results. Skipped items are only counted.

    Raises:
        ConfigError: the selection names an annotator or kind that is not there.
    """
    selection = selection or Selection()
    selection.check(store)
    events, standing, pairs, prompts = (
        store.events(), store.judgements(), store.pairs(), store.prompt_ids(),
    )  # fmt: skip
    wanted = [j for j in standing if selection.why_not(j, pairs[j.pair_id]) is None]
    said = [j for j in wanted if j.verdict != "skip"]
    compared = [j for j in said if j.kind == "comparison"]
    ordinary = [j for j in compared if pairs[j.pair_id].gold is None]
    first = [j for j in ordinary if j.repeat_of is None]
    settings: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed, "confidence": confidence}
    outcomes = [_outcome(j, pairs[j.pair_id], prompts[j.pair_id]) for j in first]
    between = [outcome for outcome in outcomes if outcome.first != outcome.second]
    found = {
        "who": selection.who,
        "without": list(selection.without),
        "confidence": confidence,
        "counts": _counts(events, wanted, pairs),
        "verdicts": {v: sum(j.verdict == v for j in first) for v in VERDICTS if v != "skip"},
        "win_rates": [asdict(rate) for rate in ranking.win_rates(between, confidence)],
        "ranking": asdict(ranking.rank(between, **settings)),
        "agreement": _agreement(first, settings),
        "self_consistency": _by_annotator(_repeats(ordinary), confidence),
        "position": _position(first, ordinary, confidence),
        "length": _length(first, pairs, confidence),
        "gold": _gold(compared, pairs, confidence),
        "ratings": _ratings(said, pairs, confidence),
        "milliseconds": _milliseconds(first),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return plain


def _counts(
    events: Sequence[Judgement], wanted: Sequence[Judgement], pairs: Mapping[int, Pair]
) -> dict[str, Any]:
    kept = [j for j in wanted if j.verdict != "skip"]
    names = {j.annotator: j.simulated for j in wanted}
    return {
        "pairs": len(pairs),
        "pairs_judged": len({j.pair_id for j in kept}),
        "comparisons": sum(j.kind == "comparison" for j in kept),
        "ratings": sum(j.kind == "rating" for j in kept),
        "skipped": len(wanted) - len(kept),
        "repeats": sum(j.repeat_of is not None for j in kept),
        "gold": sum(pairs[j.pair_id].gold is not None for j in kept),
        "simulated": sum(j.simulated for j in wanted),
        "undone": sum(e.kind == "undo" for e in events),
        "annotators": {
            name: {"n": sum(j.annotator == name for j in wanted), "simulated": simulated}
            for name, simulated in sorted(names.items())
        },
    }


def _outcome(judgement: Judgement, pair: Pair, prompt_id: int) -> ranking.Outcome:
    # The prompt is the item: pairs on one prompt are not independent.
    assert judgement.verdict is not None
    return ranking.Outcome(pair.a.source, pair.b.source, _SCORES[judgement.verdict], prompt_id)


def _agreement(first: Sequence[Judgement], settings: dict[str, Any]) -> dict[str, Any]:
    table: dict[int, dict[str, str]] = defaultdict(dict)
    for j in first:
        table[j.pair_id][j.annotator] = str(j.verdict)
    alpha = agreement.krippendorff_alpha(table, **settings)
    kappas = agreement.kappa_of_two(table, **settings)
    return {
        "krippendorff_alpha": asdict(alpha),
        "cohen_kappa": [
            {"annotators": list(names), **asdict(kappa)} for names, kappa in kappas.items()
        ],
    }


def _repeats(said: Sequence[Judgement]) -> list[tuple[Judgement, Judgement]]:
    """First vote and repeat of the same annotator on the same item, where both stand."""
    first = {(j.annotator, j.pair_id, j.kind): j for j in said if j.repeat_of is None}
    again = [j for j in said if j.repeat_of is not None]
    keys = [(j.annotator, j.pair_id, j.kind) for j in again]
    return [(first[key], j) for key, j in zip(keys, again, strict=True) if key in first]


def _by_annotator(
    repeats: Sequence[tuple[Judgement, Judgement]], confidence: float
) -> dict[str, Any]:
    names = sorted({one.annotator for one, _ in repeats})

    def consistency(name: str | None) -> dict[str, Any]:
        verdicts = [
            (one.verdict, two.verdict) for one, two in repeats if name in (None, one.annotator)
        ]
        return asdict(agreement.self_consistency(verdicts, confidence))

    return {**consistency(None), "annotators": {name: consistency(name) for name in names}}


def _position(
    first: Sequence[Judgement], ordinary: Sequence[Judgement], confidence: float
) -> dict[str, Any]:
    left_won = [j.verdict == j.left for j in first if j.verdict in ("A", "B")]
    share, p_value = agreement.position_bias(left_won, confidence)
    # With sides flipped, who keeps to a side changes the verdict.
    flips = [
        (one, two)
        for one, two in _repeats(ordinary)
        if {one.verdict, two.verdict} <= {"A", "B"} and one.left != two.left
    ]
    kept_side = sum(one.verdict != two.verdict for one, two in flips)
    return {
        "left_won": asdict(share),
        "p_value": p_value,
        "same_side_on_repeat": asdict(Share.of(kept_side, len(flips), confidence)),
    }


def _length(
    first: Sequence[Judgement], pairs: Mapping[int, Pair], confidence: float
) -> dict[str, Any]:
    decided = [
        (len(pairs[j.pair_id].a.text), len(pairs[j.pair_id].b.text), j.verdict == "A")
        for j in first
        if j.verdict in ("A", "B")
    ]
    return {
        "unit": "characters",
        "longer_won": asdict(agreement.longer_wins(decided, confidence)),
        "log_odds_per_doubling": asdict(agreement.length_slope(decided, confidence)),
    }


def _gold(
    compared: Sequence[Judgement], pairs: Mapping[int, Pair], confidence: float
) -> dict[str, Any]:
    golds = [j for j in compared if pairs[j.pair_id].gold is not None and j.repeat_of is None]

    def accuracy(some: Sequence[Judgement]) -> dict[str, Any]:
        right = sum(j.verdict == pairs[j.pair_id].gold for j in some)
        return asdict(Share.of(right, len(some), confidence))

    names = sorted({j.annotator for j in golds})
    each = {name: accuracy([j for j in golds if j.annotator == name]) for name in names}
    return {**accuracy(golds), "annotators": each}


def _order(judgement: Judgement) -> float:
    """Above 0 where A is rated higher or preferred, below where B is, 0 for neither."""
    if judgement.ratings is not None:
        return judgement.ratings[0] - judgement.ratings[1]
    return _SCORES[str(judgement.verdict)] - 0.5


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _ratings(
    said: Sequence[Judgement], pairs: Mapping[int, Pair], confidence: float
) -> dict[str, Any]:
    """Ratings beside comparisons of the same items by the same annotators."""
    ordinary = [j for j in said if pairs[j.pair_id].gold is None]
    kinds: tuple[Kind, Kind] = ("comparison", "rating")
    compared, rated = (
        {(j.annotator, j.pair_id): j for j in ordinary if j.kind == kind and j.repeat_of is None}
        for kind in kinds
    )
    orders = [
        (_sign(_order(compared[key])), _sign(_order(rated[key])))
        for key in compared
        if key in rated
    ]
    decided = [(one, two) for one, two in orders if one and two]
    agree = sum(one == two for one, two in decided)
    result: dict[str, Any] = {
        "both": len(orders),
        "higher_rated_is_preferred": asdict(Share.of(agree, len(decided), confidence)),
        "means": _means(list(rated.values()), pairs),
    }
    for kind in kinds:
        first = [j for j in ordinary if j.kind == kind and j.repeat_of is None]
        repeats = _repeats([j for j in ordinary if j.kind == kind])
        same = sum(_sign(_order(one)) == _sign(_order(two)) for one, two in repeats)
        ties = sum(_order(j) == 0 for j in first)
        result[kind] = {
            "ties": asdict(Share.of(ties, len(first), confidence)),
            "same_order_on_repeat": asdict(Share.of(same, len(repeats), confidence)),
        }
    exact = sum(
        one.ratings == two.ratings
        for one, two in _repeats([j for j in ordinary if j.kind == "rating"])
    )
    n = result["rating"]["same_order_on_repeat"]["n"]
    result["rating"]["same_numbers_on_repeat"] = asdict(Share.of(exact, n, confidence))
    return result


def _means(rated: Sequence[Judgement], pairs: Mapping[int, Pair]) -> dict[str, Any]:
    given: dict[str, list[int]] = defaultdict(list)
    for j in rated:
        assert j.ratings is not None
        for answer, rating in zip((pairs[j.pair_id].a, pairs[j.pair_id].b), j.ratings, strict=True):
            given[answer.source].append(rating)
    return {
        source: {
            "mean": sum(values) / len(values),
            "n": len(values),
            "counts": {str(k): v for k, v in sorted(Counter(values).items())},
        }
        for source, values in sorted(given.items())
    }


def _milliseconds(first: Sequence[Judgement]) -> dict[str, Any]:
    times = sorted(j.milliseconds for j in first if j.milliseconds is not None)
    return {"median": times[len(times) // 2] if times else None, "n": len(times)}
