"""Writes an evaluation: results.json, plots and a page with the models side by side."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from foundling.base import durable
from foundling.reports.evaluation_curves import curves_plot, drawable, is_share
from foundling.reports.evaluation_plots import metrics_plot
from foundling.reports.evaluation_rows import difference_table, far_pairs, metric_row
from foundling.reports.in_words import NOTHING, interval_text, value_text
from foundling.reports.names import short_names
from foundling.reports.page import draw, write_page
from foundling.reports.plot_keys import Model, drawn_models
from foundling.reports.style import compact

Values = Mapping[str, Any]
MOST_DOTS = 40  # of a figure: rows times models
MOST_SHOWN = 8  # items of a probe on the page; results.json keeps all
MOST_POINTS = 20  # of a curve in its table


def write_evaluation_report(content: Values, folder: Path, name: str) -> Path:
    """Write `results.json`, `plots/` and `report.html`; return the page's path.

    Args:
        content: the result of `foundling.evaluation.results.results`.
        name: the page's title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    durable.replace(folder / "results.json", text.encode("utf-8"))
    names = [subject["name"] for subject in content["subjects"]]
    models = drawn_models(short_names(names))
    sections = [
        _section(probe, folder, f"p{place}_{_slug(probe['name'])}", models)
        for place, probe in enumerate(content["probes"])
    ]
    return write_page(
        folder,
        "evaluation.html.j2",
        name=name,
        subjects=[{**subject, "short": models[subject["name"]]} for subject in content["subjects"]],
        models=models,
        pairs=list(pairwise(names)),
        steps=[
            {"title": row["title"], "probe": section["title"], "cells": row["steps"]}
            for section in sections
            for row in section["headlines"]
        ],
        sections=sections,
        context=context_text,
        setting={key: _setting(value) for key, value in content["setting"].items()},
        num_differences=sum(
            len(metric["differences"])
            for probe in content["probes"]
            for metric in probe["metrics"]
            if metric["headline"]
        ),
    )


def _finite(value: Any) -> Any:
    """Values that JSON can hold: no infinities, no paths."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _section(probe: Values, folder: Path, stem: str, models: Mapping[str, Model]) -> dict[str, Any]:
    """The page's section on one probe."""
    names = list(models)
    rows = [metric_row(metric, names) for metric in probe["metrics"]]
    return {
        "id": stem,
        "title": probe["title"],
        "about": probe["about"],
        "rows": rows,
        "headlines": [row for row in rows if row["headline"]],
        "neighbours": difference_table(probe["metrics"], list(pairwise(names))),
        "others": difference_table(probe["metrics"], far_pairs(names)),
        "plots": _metric_plots(probe, folder, stem, models),
        "curves": _curve_plots(probe, folder, stem, models),
        "notes": _notes(probe["notes"], models),
        "shown": _shown(probe["shown"], models),
    }


# ----------------------------------------------------------------------------- the plots


def _metric_plots(
    probe: Values, folder: Path, stem: str, models: Mapping[str, Model]
) -> list[tuple[str, Markup]]:
    """Figures of a readable number of rows: shares before numbers, headlines first."""
    plots: list[tuple[str, Markup]] = []
    known = [
        m for m in probe["metrics"] if any(v["value"] is not None for v in m["values"].values())
    ]
    for unit, what in (("share", "shares"), ("number", "numbers")):
        of = sorted((m for m in known if m["unit"] == unit), key=lambda m: not m["headline"])
        for part in _parts(of, max(4, MOST_DOTS // len(models))):
            figure = metrics_plot(probe["title"], part, models)
            plots.append(
                (what, draw(folder, f"{stem}_{len(plots) + 1}", figure, _told(part, models)))
            )
    return plots


def _parts(of: Sequence[Values], most: int) -> list[Sequence[Values]]:
    """Parts of about equal length, at most `most` each."""
    if not of:
        return []
    count = -(-len(of) // most)
    ends = [len(of) * part // count for part in range(count + 1)]
    return [of[start:end] for start, end in pairwise(ends)]


def _told(metrics: Sequence[Values], models: Mapping[str, Model]) -> str:
    """The alternative text of a figure."""
    return "; ".join(
        f"{metric['title']}: "
        + ", ".join(
            f"{models[name].name} {value_text(values, metric['unit'])}"
            for name, values in metric["values"].items()
            if values["value"] is not None
        )
        for metric in metrics
    )


def _curve_plots(
    probe: Values, folder: Path, stem: str, models: Mapping[str, Model]
) -> list[dict[str, Any]]:
    """A figure per task, with a table of its points where they are few."""
    figures: dict[str, list[Values]] = {}
    for curve in probe["curves"]:
        if drawable(curve):
            figures.setdefault(curve["figure"], []).append(curve)
    drawn = []
    for place, (title, curves) in enumerate(figures.items(), 1):
        told = f"{title}: {curves[0]['y_label']} by {curves[0]['x_label']}."
        figure = curves_plot(title, curves, models)
        drawn.append(
            {
                "drawing": draw(folder, f"{stem}_curve{place}", figure, told),
                "title": title,
                "told": told,
                "table": _points(curves, models),
            }
        )
    return drawn


def _points(curves: Sequence[Values], models: Mapping[str, Model]) -> dict[str, Any] | None:
    xs = sorted({point["x"] for curve in curves for point in curve["points"]})
    if len(xs) > MOST_POINTS:
        return None
    return {
        "x_label": curves[0]["x_label"],
        "xs": [f"{x:,.4g}" for x in xs],
        "rows": [
            (models[curve["subject"]], curve["name"], [_at(curve, x) for x in xs])
            for curve in curves
        ],
    }


def _at(curve: Values, x: float) -> dict[str, str] | None:
    """The value and the interval of the point at x; None where there is no such point."""
    for point in curve["points"]:
        if point["x"] == x:
            unit = "share" if is_share(curve) else "number"
            known = {"value": point["y"], **_interval(point)}
            return {"value": value_text(known, unit), "interval": interval_text(known, unit)}
    return None


def _interval(point: Values) -> dict[str, float | None]:
    """The interval; unknown where an end is not finite."""
    ends = {key: point[key] for key in ("low", "high")}
    is_known = all(end is not None and math.isfinite(end) for end in ends.values())
    return ends if is_known else dict.fromkeys(ends)


# ---------------------------------------------------------------------- notes and items


def _notes(
    notes: Mapping[str, Sequence[str]], models: Mapping[str, Model]
) -> list[tuple[str, str]]:
    """Each note once: first those of all models, then the others with the models' names."""
    said: dict[str, list[str]] = {}
    for name, of in notes.items():
        for note in dict.fromkeys(of):
            said.setdefault(note, []).append(name)
    told = [
        ("" if len(by) == len(notes) else ", ".join(models[name].name for name in by), note)
        for note, by in said.items()
    ]
    return sorted(told, key=lambda one: bool(one[0]))


def _shown(shown: Mapping[str, Sequence[Values]], models: Mapping[str, Model]) -> dict[str, Any]:
    """Items with each model's answers, each item once."""
    items: dict[str, list[tuple[Model, Values]]] = {}
    for name, of in shown.items():
        for one in of:
            items.setdefault(one["given"], []).append((models[name], one))
    # Items that most models have come first: there they can be compared.
    order = sorted(items.items(), key=lambda item: -len({model.name for model, _ in item[1]}))
    return {"items": order[:MOST_SHOWN], "left_out": max(0, len(order) - MOST_SHOWN)}


def _setting(value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or NOTHING
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _slug(name: str) -> str:
    """A probe's name for use in file names and URLs."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")


def context_text(max_context: int | None) -> str:
    """The context length in words."""
    return "no limit" if max_context is None else f"{compact(max_context)} tokens"
