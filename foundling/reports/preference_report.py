"""Writes the report of preferences: who wins, and how reliable the votes are."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.reports.names import cut, short_names
from foundling.reports.page import draw, duration, write_page
from foundling.reports.preference_plots import (
    Estimate,
    estimates_plot,
    ratings_plot,
)
from foundling.reports.style import compact
from foundling.runs.records import is_number

RATINGS = range(1, 8)
Values = Mapping[str, Any]


def write_preference_report(found: Values, folder: Path, name: str) -> Path:
    """Write `statistics.json`, `plots/` and `report.html`; return the page's path.

    Args:
        found: the result of `foundling.preferences.statistics.statistics`.
        name: the name of the database, the page's title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    durable.replace(folder / "statistics.json", text.encode())
    scores = found["ranking"]["scores"]
    short = short_names([*scores, *found["ratings"]["means"]])
    drawn = {
        stem: draw(folder, stem, estimates_plot(title, label, estimates, **axis), told)
        if (told := _told(estimates))
        else None
        for stem, title, label, estimates, axis in _figures(found, short)
    }
    means = found["ratings"]["means"]
    counts = {
        short[source]: {int(rating): count for rating, count in values["counts"].items()}
        for source, values in means.items()
    }
    drawn["ratings"] = draw(
        folder, "ratings", ratings_plot(counts, RATINGS), "How often each rating was given."
    )
    return write_page(
        folder,
        "preferences.html.j2",
        name=name,
        found=found,
        cards=_cards(found),
        figures=drawn,
        short=short,
        rates=found["win_rates"],
        means=means,
        annotators=_annotators(found),
        slope=_slope(found["length"]["log_odds_per_doubling"]),
        share=share_text,
    )


def share_text(share: Values) -> str:
    """A share in words: 62% (48% to 74%), of 50."""
    if share["share"] is None:
        return "–"
    low, high = share["interval"]
    return f"{share['share']:.0%} ({low:.0%} to {high:.0%}), of {share['n']:,}"


def _figures(
    found: Values, short: Mapping[str, str]
) -> Iterator[tuple[str, str, str, list[Estimate], dict[str, Any]]]:
    """Each figure: stem, title, label of the axis, estimates, how the axis is drawn."""
    halves = {"limits": (0, 1), "reference": 0.5, "percent": True}
    label = "Bradley–Terry score (logarithm of strength; the mean is 0)"
    yield "scores", "Who is preferred", label, _scores(found["ranking"], short), {"reference": 0.0}
    label = "share of the prompts that were decided, with Wilson's interval"
    yield "wins", "Win rates", label, _wins(found["win_rates"], short), halves
    agreement = found["agreement"]
    kappas = [
        _estimate("kappa, {}\nand {}".format(*map(cut, kappa["annotators"], (16, 19))), kappa)
        for kappa in agreement["cohen_kappa"][:12]
    ]
    trust = [
        _estimate("Krippendorff's alpha, all", agreement["krippendorff_alpha"]),
        *kappas,
        _estimate("self-consistency, all", found["self_consistency"]),
        _estimate("right on gold items", found["gold"]),
    ]
    label = "1 is perfect; kappa and alpha are 0 by chance"
    yield "trust", "How far the votes can be trusted", label, trust, {"limits": (0, 1)}
    sides = [
        _estimate("the left answer won", found["position"]["left_won"]),
        _estimate("the longer answer won", found["length"]["longer_won"]),
    ]
    label = "share of the votes; 50% where it has no part"
    yield "sides", "Place and length", label, sides, halves
    ratings = found["ratings"]
    compared, rated = ratings["comparison"], ratings["rating"]
    both = [
        _estimate("higher rated is preferred", ratings["higher_rated_is_preferred"]),
        _estimate("same order again: compared", compared["same_order_on_repeat"]),
        _estimate("same order again: rated", rated["same_order_on_repeat"]),
        _estimate("same numbers again: rated", rated["same_numbers_on_repeat"]),
        _estimate("ties: compared", compared["ties"]),
        _estimate("ties: rated", rated["ties"]),
    ]
    axis = {"limits": (0, 1), "percent": True}
    yield "both", "Ratings beside comparisons", "share of the items", both, axis


def _estimate(name: str, found: Values) -> Estimate:
    """A share or a coefficient."""
    value = found["share"] if "share" in found else found["value"]
    return Estimate(name, value, found["interval"], found["n"])


def _scores(ranking: Values, short: Mapping[str, str]) -> list[Estimate]:
    scores = sorted(ranking["scores"].items(), key=lambda item: item[1], reverse=True)
    return [
        Estimate(cut(short[source]), score, ranking["intervals"].get(source))
        for source, score in scores
    ]


def _wins(rates: Sequence[Values], short: Mapping[str, str]) -> list[Estimate]:
    estimates = []
    for rate in rates:
        first, second, value, interval = (
            rate[key] for key in ("first", "second", "rate", "interval")
        )
        # Easiest to read from the winner's side.
        if value is not None and value < 0.5:
            first, second = second, first
            value, interval = 1 - value, [1 - interval[1], 1 - interval[0]]
        name = f"{cut(short[first])}\nover {cut(short[second], 18)}"
        estimates.append(Estimate(name, value, interval, rate["wins"] + rate["losses"]))
    return estimates


def _told(estimates: list[Estimate]) -> str:
    """The alternative text of a figure."""
    return "; ".join(
        f"{' '.join(e.name.split())} {e.value:.2f}"
        + (f" ({e.interval[0]:.2f} to {e.interval[1]:.2f})" if e.interval else "")
        for e in estimates
        if e.value is not None
    )


def _cards(found: Values) -> list[tuple[str, str, str]]:
    counts = found["counts"]
    people = sum(not annotator["simulated"] for annotator in counts["annotators"].values())
    programs = len(counts["annotators"]) - people
    ties = found["verdicts"]["tie"] + found["verdicts"]["both_bad"]
    cards = [
        ("Comparisons", compact(counts["comparisons"]), f"{counts['repeats']:,} repeats"),
        ("Pairs judged", compact(counts["pairs_judged"]), f"of {counts['pairs']:,}"),
        ("Annotators", compact(people + programs), f"{programs:,} of them simulated"),
        ("Ties", compact(ties), f"{found['verdicts']['both_bad']:,} of them both bad"),
        ("Ratings", compact(counts["ratings"]), "1 to 7, of each answer"),
        ("Skipped", compact(counts["skipped"]), f"{counts['undone']:,} votes undone"),
    ]
    if is_number(found["milliseconds"]["median"]):
        milliseconds = found["milliseconds"]["median"]
        shown = duration(milliseconds / 1000) if milliseconds >= 100 else f"{milliseconds} ms"
        cards.append(("Time a vote", shown, "the median"))
    return cards


def _annotators(found: Values) -> list[dict[str, Any]]:
    nobody = {"share": None, "interval": None, "n": 0, "count": 0}
    return [
        {
            "name": name,
            **values,
            "consistent": found["self_consistency"]["annotators"].get(name, nobody),
            "gold": found["gold"]["annotators"].get(name, nobody),
        }
        for name, values in found["counts"]["annotators"].items()
    ]


def _slope(slope: Values) -> str:
    if slope["value"] is None:
        return f"The effect of length is not determined: {slope['problem']}."
    low, high = slope["interval"]
    return (
        f"Twice the length changes the log-odds of winning by {slope['value']:+.2f} "
        f"({low:+.2f} to {high:+.2f})."
    )
