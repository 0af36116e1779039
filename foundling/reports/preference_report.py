"""Writes the report of preferences: a page with who wins, and how far the votes can be trusted."""

import json
from collections.abc import Mapping
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
        found: as `foundling.preferences.statistics.statistics` has it.
        name: of the database, the page's title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    durable.replace(folder / "statistics.json", text.encode())
    scores = found["ranking"]["scores"]
    short = short_names([*scores, *found["ratings"]["means"]])
    figures = {
        "scores": _scores(found, short),
        "wins": _wins(found, short),
        "trust": _trust(found),
        "sides": _sides(found),
        "both": _both(found),
    }
    drawn = {
        stem: draw(folder, stem, figure, told) if (told := _told(estimates)) else None
        for stem, (figure, estimates) in figures.items()
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


def _share(name: str, share: Values) -> Estimate:
    interval = share["interval"]
    return Estimate(name, share["share"], interval and (interval[0], interval[1]), share["n"])


def _coefficient(name: str, found: Values) -> Estimate:
    interval = found["interval"]
    return Estimate(name, found["value"], interval and (interval[0], interval[1]), found["n"])


def _scores(found: Values, short: Mapping[str, str]) -> tuple[Any, list[Estimate]]:
    ranking = found["ranking"]
    order = sorted(ranking["scores"], key=ranking["scores"].__getitem__, reverse=True)
    estimates = []
    for source in order:
        interval = ranking["intervals"].get(source)
        ends = (interval[0], interval[1]) if interval else None
        estimates.append(Estimate(cut(short[source]), ranking["scores"][source], ends))
    label = "Bradley–Terry score (logarithm of strength; the mean is 0)"
    return estimates_plot("Who is preferred", label, estimates, reference=0.0), estimates


def _wins(found: Values, short: Mapping[str, str]) -> tuple[Any, list[Estimate]]:
    estimates = []
    for rate in found["win_rates"]:
        first, second = rate["first"], rate["second"]
        value, interval = rate["rate"], rate["interval"]
        # Read best from the winner's side.
        if value is not None and value < 0.5:
            first, second = second, first
            value, interval = 1 - value, [1 - interval[1], 1 - interval[0]]
        ends = (interval[0], interval[1]) if interval else None
        decided = rate["wins"] + rate["losses"]
        estimates.append(
            Estimate(f"{cut(short[first])}\nover {cut(short[second], 18)}", value, ends, decided)
        )
    figure = estimates_plot(
        "Win rates", "share of the prompts that were decided, with Wilson's interval", estimates,
        limits=(0, 1), reference=0.5, percent=True,
    )  # fmt: skip
    return figure, estimates


def _trust(found: Values) -> tuple[Any, list[Estimate]]:
    agreement = found["agreement"]
    estimates = [_coefficient("Krippendorff's alpha, all", agreement["krippendorff_alpha"])]
    for kappa in agreement["cohen_kappa"][:12]:
        first, second = kappa["annotators"]
        estimates.append(_coefficient(f"kappa, {cut(first, 16)}\nand {cut(second, 19)}", kappa))
    estimates.append(_share("self-consistency, all", found["self_consistency"]))
    estimates.append(_share("right on gold items", found["gold"]))
    figure = estimates_plot(
        "How far the votes can be trusted", "1 is perfect; kappa and alpha are 0 by chance",
        estimates, limits=(0, 1),
    )  # fmt: skip
    return figure, estimates


def _sides(found: Values) -> tuple[Any, list[Estimate]]:
    position, length = found["position"], found["length"]
    estimates = [
        _share("the left answer won", position["left_won"]),
        _share("the longer answer won", length["longer_won"]),
    ]
    figure = estimates_plot(
        "Place and length", "share of the votes; 50% where it has no part", estimates,
        limits=(0, 1), reference=0.5, percent=True,
    )  # fmt: skip
    return figure, estimates


def _both(found: Values) -> tuple[Any, list[Estimate]]:
    """Ratings beside comparisons on the same items: which is the more consistent."""
    ratings = found["ratings"]
    compared, rated = ratings["comparison"], ratings["rating"]
    estimates = [
        _share("higher rated is preferred", ratings["higher_rated_is_preferred"]),
        _share("same order again: compared", compared["same_order_on_repeat"]),
        _share("same order again: rated", rated["same_order_on_repeat"]),
        _share("same numbers again: rated", rated["same_numbers_on_repeat"]),
        _share("ties: compared", compared["ties"]),
        _share("ties: rated", rated["ties"]),
    ]
    figure = estimates_plot(
        "Ratings beside comparisons", "share of the items", estimates, limits=(0, 1), percent=True
    )
    return figure, estimates


def _told(estimates: list[Estimate]) -> str:
    """A figure in words, for those who cannot see it."""
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
