"""Writes the report of a sweep: answer loss against forgetting."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from foundling.base.config import load_json
from foundling.reports.page import draw, existing, write_page
from foundling.reports.tuning_plots import Tuned, frontier_plot
from foundling.runs.records import is_number


def write_sweep_report(folder: Path) -> Path:
    """Write `plots/` and `report.html` of a sweep; return the page's path.

    Raises:
        ConfigError: the folder has no sweep.json, or it is broken.
    """
    content = load_json(existing(folder / "sweep.json", "sweep"))
    rows: list[dict[str, Any]] = content["rows"]
    measure, unit = _measure(rows)
    runs = []
    for row in rows:
        row["link"] = quote(f"{row['run']}/report.html")
        row["forgotten"] = _rise(row, row, measure)
        path = [(_rise(row, at, measure), at["loss_nats"]) for at in row["path"]]
        known = [(rise, loss) for rise, loss in path if rise is not None and is_number(loss)]
        if known:
            chosen = min(range(len(known)), key=lambda index: known[index][1])
            rises, losses = zip(*known, strict=True)
            runs.append(Tuned(f"{_symbol(content['key'])} = {row['value']}", rises, losses, chosen))
    told = "; ".join(
        f"{run.name}: {run.loss_nats[run.chosen]:.3f} nats, "
        f"{run.forgotten[run.chosen]:+.3f} {unit} forgotten"
        for run in runs
    )
    return write_page(
        folder,
        "sweep.html.j2",
        name=folder.resolve().name,
        symbol=_symbol(content["key"]),
        rows=rows,
        unit=unit,
        figure=draw(folder, "frontier", frontier_plot(runs, unit), f"Frontier. {told}."),
    )


def _symbol(key: str) -> str:
    return "λ" if key in ("lambda", "anchor.strength") else key


def _measure(rows: list[dict[str, Any]]) -> tuple[str, str]:
    """Forgetting in bits per byte where every run has it, else in nats per token."""
    in_bits = all(is_number(row.get("pretraining_bits_per_byte")) for row in rows)
    if in_bits:
        return "pretraining_bits_per_byte", "bits per byte"
    return "pretraining_loss_nats", "nats per token"


def _rise(row: dict[str, Any], at: dict[str, Any], measure: str) -> float | None:
    before, after = row["before"].get(measure), at.get(measure)
    return float(after - before) if is_number(before) and is_number(after) else None
