"""Turns metrics and their differences into rows of the report's tables."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from foundling.reports.in_words import (
    BETTER,
    Verdict,
    against_chance,
    difference_text,
    interval_text,
    of_difference,
    p_text,
    span,
    value_text,
)

Values = Mapping[str, Any]


def metric_row(metric: Values, names: Sequence[str]) -> dict[str, Any]:
    """A metric's row: a cell per model, chance, baseline, and the note if all share it."""
    unit = metric["unit"]
    values: Mapping[str, Values] = metric["values"]
    baselines = [v["baseline"] for v in values.values() if v["baseline"] is not None]
    notes = {v["note"] for v in values.values()}
    is_common = len(notes) == 1
    return {
        "title": metric["title"],
        "key": metric["key"],
        "headline": metric["headline"],
        "better": BETTER[metric["good"]],
        "cells": [_cell(values.get(name), metric, not is_common) for name in names],
        "chance": span([v["chance"] for v in values.values() if v["chance"] is not None], unit),
        "baseline": span([baseline["value"] for baseline in baselines], unit),
        "rules": "; ".join(dict.fromkeys(baseline["rule"] for baseline in baselines)),
        "note": min(notes) if is_common else "",
        "steps": _steps(metric, names),
    }


def _cell(values: Values | None, metric: Values, with_note: bool) -> dict[str, Any] | None:
    """None where the model has no such value."""
    if values is None or values["value"] is None:
        return None
    unit = metric["unit"]
    grouped = values["num_groups"] != values["n"]
    return {
        "value": value_text(values, unit),
        "interval": interval_text(values, unit),
        "n": f"n = {values['n']:,}" + (f" in {values['num_groups']:,} groups" if grouped else ""),
        "note": values["note"] if with_note else "",
        "verdict": against_chance(values, metric["good"]),
    }


def far_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of models that are not neighbours."""
    return [(a, b) for place, a in enumerate(names) for b in names[place + 2 :]]


def _steps(metric: Values, names: Sequence[str]) -> list[dict[str, Any] | None]:
    """The difference of each model from the one before it."""
    found = {(d["first"], d["second"]): d for d in metric["differences"]}
    return [_difference(found.get(pair), metric) for pair in pairwise(names)]


def difference_table(metrics: Sequence[Values], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The differences by metric and pair; columns are the pairs that have any."""
    found = {
        (metric["key"], d["first"], d["second"]): d
        for metric in metrics
        for d in metric["differences"]
    }
    columns = [pair for pair in pairs if any((m["key"], *pair) in found for m in metrics)]
    rows, shown = [], 0
    for metric in metrics:
        cells = [_difference(found.get((metric["key"], *pair)), metric) for pair in columns]
        shown += sum(cell is not None and cell["is_shown"] for cell in cells)
        if any(cells):
            rows.append({"title": metric["title"], "probe": "", "cells": cells})
    count = sum(cell is not None for row in rows for cell in row["cells"])
    return {"pairs": columns, "rows": rows, "count": count, "shown": shown}


def _difference(found: Values | None, metric: Values) -> dict[str, Any] | None:
    if found is None:
        return None
    value, interval = difference_text(found, metric["unit"])
    verdict: Verdict = of_difference(found, metric["good"])
    return {
        "value": value + (" points" if metric["unit"] == "share" else ""),
        "interval": interval,
        "p": p_text(found["p_value"]),
        "adjusted": p_text(found["adjusted_p_value"]),
        "n": f"{found['n']:,}",
        "verdict": verdict,
        "is_shown": not verdict.text.startswith(("no ", "not ")),
    }
