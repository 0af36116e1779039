"""Writes the report of `adapt`: learning in the prompt beside fine-tuning, on one curve."""

from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.reports.plot_style import compact
from foundling.reports.run_report import draw, existing, page
from foundling.reports.tuning_plots import learning_plot
from foundling.runs.records import read_object
from foundling.statistics.learning_curve import WAYS, Point


def write_adapt_report(folder: Path) -> Path:
    """Write `plots/` and `report.html` of a folder of measurements; return the page's path.

    Raises:
        ConfigError: the folder has no adapt.json, or it is broken.
    """
    content = read_object(existing(folder / "adapt.json", "adapt"))
    task = content["task"]
    curves = {
        WAYS[way]: [Point(**values) for values in points]
        for way, points in content["curves"].items()
    }
    figure = learning_plot(
        {name: [(p.number, p.mean, p.low, p.high) for p in of] for name, of in curves.items()},
        chance=task["chance"] or None,
        majority=task["majority"],
        title="Accuracy by the number of examples",
    )
    told = "; ".join(
        f"{name}: " + ", ".join(f"{p.mean:.1%} at {p.number:,}" for p in points)
        for name, points in curves.items()
    )
    text = page(
        "adapt.html.j2",
        name=task["name"],
        content=content,
        cards=_cards(content),
        curves=curves,
        numbers=sorted({p.number for points in curves.values() for p in points}),
        table={name: {p.number: p for p in points} for name, points in curves.items()},
        figure=draw(folder, "learning", figure, f"Accuracy. {told}."),
    )
    durable.replace(folder / "report.html", text.encode("utf-8"))
    return folder / "report.html"


def _cards(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    task, model = content["task"], content["model"]
    labels = task["labels"]
    context = f", {model['max_context']:,} tokens of context" if model["max_context"] else ""
    return [
        ("Task", f"{len(labels)} labels" if labels else "short answers", ", ".join(labels or [])),
        ("Test items", f"{task['num_test']:,}", "the same for every point"),
        ("To learn from", f"{task['num_train']:,}", "examples that the draws are from"),
        ("Majority", f"{task['majority']:.1%}", "always the most common answer"),
        ("Parameters", compact(float(model["num_parameters"])), f"{model['rung']}{context}"),
    ]
