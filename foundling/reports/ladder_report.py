"""Writes the report of a ladder: the rungs side by side on the same data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from foundling.base.config import load_json
from foundling.reports.page import draw, existing, write_page
from foundling.reports.run_plots import Curve, ladder_bars, loss_by_position_plot, validation_curves
from foundling.reports.style import compact
from foundling.runs.records import by_split, is_number, read_records

# From the rung that remembers least to the one that remembers most.
MEMORY = {
    "next_word": "the last token alone",
    "finite_lag": "the last few tokens, in order",
    "bag_of_words": "every token so far, but not their order",
    "attention": "every token so far, weighted by relevance, in one look",
    "transformer": "every token so far, looked at again in layer after layer",
}


def write_ladder_report(folder: Path) -> Path:
    """Write `plots/` and `report.html` of a ladder; return the page's path.

    Raises:
        ConfigError: the folder has no ladder.json, or a file in it is broken.
    """
    ladder = load_json(existing(folder / "ladder.json", "ladder"))
    known = list(MEMORY)
    rows: list[dict[str, Any]] = sorted(  # rungs that we do not know stay in order, at the end
        ladder["rows"], key=lambda row: known.index(row["rung"]) if row["rung"] in known else 99
    )
    in_bits = bool(rows) and all(is_number(row.get("bits_per_byte")) for row in rows)
    key, unit = ("bits_per_byte", "bits per byte") if in_bits else ("loss_nats", "nats per token")
    values = {str(row["rung"]): float(row[key]) for row in rows if is_number(row.get(key))}
    curves = []
    for row in rows:
        metrics = folder / str(row["run"]) / "metrics.jsonl"
        validation = by_split(read_records(metrics))["validation"] if metrics.exists() else []
        curves.append(Curve.of(validation, key, str(row["rung"]), x="tokens"))
        report = folder / str(row["run"]) / "report.html"
        row["memory"] = MEMORY.get(row["rung"], "")
        row["link"] = quote(f"{row['run']}/report.html") if report.exists() else ""
    by_position = {
        str(row["rung"]): row["loss_by_position"] for row in rows if row.get("loss_by_position")
    }
    told = "; ".join(f"{name} {value:.3f}" for name, value in values.items())
    figures = {
        "ladder": (ladder_bars(values, unit), f"Loss by rung in {unit}: {told}."),
        "validation_curves": (
            validation_curves(curves, unit),
            f"Validation loss in {unit} against training tokens, one curve a rung.",
        ),
        "loss_by_position": (
            loss_by_position_plot(by_position),
            "Validation loss by position in the context, one curve a rung.",
        ),
    }
    return write_page(
        folder,
        "ladder.html.j2",
        name=folder.resolve().name,
        rows=rows,
        cards=_cards(ladder.get("data", {}), rows),
        best=min(values, key=values.__getitem__) if values else "",
        values=values,
        unit=unit,
        figures={stem: draw(folder, stem, *figure) for stem, figure in figures.items()},
    )


def _cards(
    data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, str]]:
    cards = [("Data", str(data["name"]), "for every rung")] if data.get("name") else []
    for key, label, unit in (
        ("tokens", "Tokens", "in the training data"),
        ("bytes", "Bytes", "of text"),
        ("vocab_size", "Vocabulary", "tokens"),
    ):
        if is_number(data.get(key)):
            cards.append((label, compact(data[key]), unit))
    trained = {row["tokens"] for row in rows if is_number(row.get("tokens"))}
    if len(trained) == 1:
        cards.append(("Trained on", compact(trained.pop()), "tokens a rung"))
    return cards
