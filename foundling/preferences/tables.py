"""The statistics of preferences as tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

Values = Mapping[str, Any]


def tables(found: Values) -> list[Table]:
    """Win rates, scores, the reliability of the votes, and ratings."""
    ranking, ratings = found["ranking"], found["ratings"]
    made = [
        _table(
            ("first", "second", "won", "lost", "tied", "win rate"),
            [
                (r["first"], r["second"], r["wins"], r["losses"], r["ties"], _rate(r))
                for r in found["win_rates"]
            ],
        ),
        _table(
            ("source", "Bradley–Terry score", "mean rating"),
            [
                (
                    name,
                    _figure(ranking["scores"].get(name), ranking["intervals"].get(name)),
                    _mean(ratings["means"].get(name)),
                )
                for name in dict.fromkeys([*_by_score(ranking["scores"]), *ratings["means"]])
            ],
        ),
        _table(("what the votes are worth", "", "n"), _worth(found)),
        _table(
            ("annotator", "votes", "same on repeats", "right on gold"),
            [
                (
                    name + (" (simulated)" if values["simulated"] else ""),
                    values["n"],
                    _share(found["self_consistency"]["annotators"].get(name)),
                    _share(found["gold"]["annotators"].get(name)),
                )
                for name, values in found["counts"]["annotators"].items()
            ],
        ),
    ]
    return [table for table in made if table.row_count]


def notes(found: Values) -> list[str]:
    """Sentences that go with the tables."""
    counts, ranking = found["counts"], found["ranking"]
    lines = [
        f"{counts['comparisons']:,} comparisons and {counts['ratings']:,} ratings of "
        f"{counts['pairs_judged']:,} of {counts['pairs']:,} pairs; {counts['skipped']:,} skipped, "
        f"{counts['undone']:,} undone"
    ]
    if ranking["scores"] and not ranking["determined"]:
        lines.append(
            "the votes do not determine the scores: someone never won, or was never compared "
            "with the others; a weak prior holds them"
        )
    return lines


def _worth(found: Values) -> list[tuple[str, str, int]]:
    agreement, position, length = found["agreement"], found["position"], found["length"]
    alpha, slope = agreement["krippendorff_alpha"], length["log_odds_per_doubling"]
    ratings = found["ratings"]
    compared, rated = ratings["comparison"], ratings["rating"]
    rows = [("Krippendorff's alpha", _figure(alpha["value"], alpha["interval"]), alpha["n"])]
    for kappa in agreement["cohen_kappa"]:
        name = f"Cohen's kappa, {' and '.join(kappa['annotators'])}"
        rows.append((name, _figure(kappa["value"], kappa["interval"]), kappa["n"]))
    shares = [
        ("the same verdict on a repeat", found["self_consistency"]),
        ("right on gold items", found["gold"]),
        ("the left answer won", position["left_won"]),
        ("the same side on a repeat", position["same_side_on_repeat"]),
        ("the longer answer won", length["longer_won"]),
        ("the higher rated is preferred", ratings["higher_rated_is_preferred"]),
        ("the same order on a repeat, compared", compared["same_order_on_repeat"]),
        ("the same order on a repeat, rated", rated["same_order_on_repeat"]),
        ("ties, compared", compared["ties"]),
        ("ties, rated", rated["ties"]),
    ]
    rows += [(name, _share(share), share["n"]) for name, share in shares]
    rows.append(
        ("log-odds of a doubled length", _figure(slope["value"], slope["interval"]), slope["n"])
    )
    return [row for row in rows if row[1] != "–"]


def _by_score(scores: Mapping[str, float]) -> list[str]:
    return sorted(scores, key=scores.__getitem__, reverse=True)


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for name in names:
        number = all(isinstance(row[len(table.columns)], int) for row in rows)
        table.add_column(
            name, justify="right" if number else "left", overflow="fold", no_wrap=number
        )
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    return table


def _figure(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def _share(share: Values | None) -> str:
    if share is None or share["share"] is None:
        return "–"
    low, high = share["interval"]
    return f"{share['share']:.0%} ({low:.0%} to {high:.0%})"


def _rate(rate: Values) -> str:
    return _share({"share": rate["rate"], "interval": rate["interval"]})


def _mean(values: Values | None) -> str:
    return "–" if values is None else f"{values['mean']:.2f} of {values['n']:,}"
