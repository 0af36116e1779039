"""Writes the report of `adapt`: learning in the prompt beside fine-tuning, on one curve."""

from pathlib import Path
from typing import Any

from foundling.base.config import load_json
from foundling.reports.evaluation_curves import curves_plot
from foundling.reports.page import draw, existing, write_page
from foundling.reports.plot_keys import drawn_models
from foundling.reports.style import compact
from foundling.statistics.learning_curve import WAYS, Point


def write_adapt_report(folder: Path) -> Path:
    """Write `plots/` and `report.html` of a folder of measurements; return the page's path.

    Raises:
        ConfigError: the folder has no adapt.json, or it is broken.
    """
    content = load_json(existing(folder / "adapt.json", "adapt"))
    task = content["task"]
    curves = {
        WAYS[way]: [Point(**values) for values in points]
        for way, points in content["curves"].items()
    }
    drawn = [
        {
            "subject": name,
            "name": "",
            "x_label": "examples",
            "y_label": "accuracy",
            "chance": task["chance"] or None,
            "majority": task["majority"],
            "points": [{"x": p.number, "y": p.mean, "low": p.low, "high": p.high} for p in points],
        }
        for name, points in curves.items()
    ]
    models = drawn_models({name: name for name in curves})
    figure = curves_plot("Accuracy by the number of examples", drawn, models)
    told = "; ".join(
        f"{name}: " + ", ".join(f"{p.mean:.1%} at {p.number:,}" for p in points)
        for name, points in curves.items()
    )
    return write_page(
        folder,
        "adapt.html.j2",
        name=task["name"],
        content=content,
        cards=_cards(content),
        curves=curves,
        numbers=sorted({p.number for points in curves.values() for p in points}),
        table={name: {p.number: p for p in points} for name, points in curves.items()},
        figure=draw(folder, "learning", figure, f"Accuracy. {told}."),
    )


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
