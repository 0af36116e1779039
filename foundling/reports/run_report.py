"""Writes report.html, one self-contained page, from what a run folder or a ladder folder holds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from foundling.base import durable
from foundling.base.config import ConfigError, flatten, load_toml
from foundling.reports import guard_story
from foundling.reports.plot_style import compact, inline_svg, save, theme_variables
from foundling.reports.plots import (
    Curve,
    ladder_bars,
    ladder_curves,
    learning_rate_plot,
    loss_by_position_plot,
    loss_plot,
)
from foundling.reports.tuning_plots import changes_plot, drift_plot, preferred_plot
from foundling.runs.records import (
    best_validation,
    bits_per_nat,
    by_split,
    is_number,
    merge_events,
    read_object,
    read_records,
    undone,
)

# From the rung that remembers least to the one that remembers most.
MEMORY = {
    "next_word": "the last token alone",
    "finite_lag": "the last few tokens, in order",
    "bag_of_words": "every token so far, but not their order",
    "attention": "every token so far, weighted by relevance, in one look",
    "transformer": "every token so far, looked at again in layer after layer",
}
MAX_SAMPLES, MAX_EVENTS = 30, 200  # on the page; the files keep all
RECENT = 200  # training records that today's speed is the median of


def write_run_report(run_dir: Path) -> Path:
    """Write `plots/` and `report.html` of one run; return the page's path.

    Raises:
        ConfigError: the folder has no metrics.jsonl, or a file in it is broken.
    """
    records = read_records(existing(run_dir / "metrics.jsonl", "run"))
    splits = by_split(records)
    train, validation = splits["train"], splits["validation"]
    log = read_records(path) if (path := run_dir / "events.jsonl").exists() else []
    events = merge_events(log)
    deeds = guard_story.deeds(events)
    manifest = read_object(path) if (path := run_dir / "manifest.json").exists() else {}
    config = load_toml(path) if (path := run_dir / "config.toml").exists() else {}
    best = best_validation(validation)
    told = f": best {best['loss_nats']:.3f} {_unit(best)} on validation" if best else ""
    loss = loss_plot(
        # Validation is the answers' loss alone; beside an anchor the training's is shown so too.
        _curve(train, "cross_entropy" if any("kl" in record for record in train) else "loss_nats"),
        _curve(validation, "loss_nats"),
        events,
        guard_story.undone_curves(train, undone(records), events),
        bits_per_nat=bits_per_nat(validation),
        title=f"Loss{told}",
        unit=_unit(best),
    )
    positions = [record for record in validation if record.get("loss_by_position")]
    shown = {positions[i]["step"]: positions[i] for i in _first_middle_last(len(positions))}
    by_position = {f"step {step:,}": r["loss_by_position"] for step, r in reversed(shown.items())}
    rates = learning_rate_plot(_learning_rates(train))
    told = f"Validation loss by position in the context, at {', '.join(by_position)}."
    figures: dict[str, Any] = {
        "loss": draw(run_dir, "loss", loss, f"{_describe_losses(best)} {deeds}".strip()),
        "learning_rate": draw(run_dir, "learning_rate", rates, "Learning rate by step."),
        "preferred": [],
        "drift": None,
        "positions": by_position
        and draw(run_dir, "loss_by_position", loss_by_position_plot(by_position), told),
    }
    pairs = [record for record in validation if "num_pairs" in record]
    if pairs:
        accuracy, changes = preferred_plot(pairs), changes_plot(pairs)
        figures["preferred"] = [
            draw(run_dir, "preferred", accuracy, "Held-out pairs told rightly, by step."),
            draw(
                run_dir, "changes", changes, "Change of either answer's log-probability, by step."
            ),
        ]
    if any(is_number(record.get("kl_nats")) for record in validation):
        figures["drift"] = draw(run_dir, "drift", *_drift(validation))
    samples = [record for record in reversed(splits["samples"]) if record.get("samples")]
    text = page(
        "run.html.j2",
        name=run_dir.resolve().name,
        cards=[*_run_cards(train, validation, best, manifest), *guard_story.card(events)],
        figures=figures,
        of_pairs=bool(pairs),
        samples=samples[:MAX_SAMPLES],
        samples_left_out=max(0, len(samples) - MAX_SAMPLES),
        deeds=deeds,
        events=guard_story.told(events)[::-1][:MAX_EVENTS],
        events_left_out=max(0, len(events) - MAX_EVENTS),
        config=_sections(config),
        lineage=dict(flatten(manifest)),
    )
    durable.replace(run_dir / "report.html", text.encode("utf-8"))
    return run_dir / "report.html"


def write_ladder_report(ladder_dir: Path) -> Path:
    """Write `plots/` and `report.html` of a ladder; return the page's path.

    Raises:
        ConfigError: the folder has no ladder.json, or a file in it is broken.
    """
    ladder = read_object(existing(ladder_dir / "ladder.json", "ladder"))
    known = list(MEMORY)
    rows: list[dict[str, Any]] = sorted(  # rungs that we do not know stay in order, at the end
        ladder["rows"], key=lambda row: known.index(row["rung"]) if row["rung"] in known else 99
    )
    in_bits = bool(rows) and all(is_number(row.get("bits_per_byte")) for row in rows)
    key, unit = ("bits_per_byte", "bits per byte") if in_bits else ("loss_nats", "nats per token")
    values = {str(row["rung"]): float(row[key]) for row in rows if is_number(row.get(key))}
    curves = []
    for row in rows:
        metrics = ladder_dir / str(row["run"]) / "metrics.jsonl"
        validation = by_split(read_records(metrics))["validation"] if metrics.exists() else []
        curves.append(_curve(validation, key, str(row["rung"]), x="tokens"))
    positions = {
        str(row["rung"]): row["loss_by_position"] for row in rows if row.get("loss_by_position")
    }
    told = "; ".join(f"{name} {value:.3f}" for name, value in values.items())
    figures = {
        "bars": draw(
            ladder_dir, "ladder", ladder_bars(values, unit), f"Loss by rung in {unit}: {told}."
        ),
        "curves": draw(
            ladder_dir,
            "ladder_curves",
            ladder_curves(curves, unit),
            f"Validation loss in {unit} against training tokens, one curve a rung.",
        ),
        "positions": draw(
            ladder_dir,
            "loss_by_position",
            loss_by_position_plot(positions),
            "Validation loss by position in the context, one curve a rung.",
        ),
    }
    for row in rows:
        report = ladder_dir / str(row["run"]) / "report.html"
        row["memory"] = MEMORY.get(row["rung"], "")
        row["link"] = quote(f"{row['run']}/report.html") if report.exists() else ""
    text = page(
        "ladder.html.j2",
        name=ladder_dir.resolve().name,
        rows=rows,
        cards=_ladder_cards(ladder.get("data", {}), rows),
        best=min(values, key=values.__getitem__) if values else "",
        values=values,
        unit=unit,
        figures=figures,
    )
    durable.replace(ladder_dir / "report.html", text.encode("utf-8"))
    return ladder_dir / "report.html"


def _curve(
    records: Sequence[Mapping[str, Any]], key: str, name: str = "", x: str = "step"
) -> Curve:
    return Curve([r.get(x) for r in records], [r.get(key) for r in records], name)


def _learning_rates(train: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """`learning_rate` and each `learning_rate_NAME`; beside those the plain one is AdamW's."""
    keys = [key for key in (train[-1] if train else ()) if key.startswith("learning_rate")]
    plain = "adamw" if len(keys) > 1 else ""
    return [
        _curve(train, key, key.removeprefix("learning_rate").strip("_") or plain) for key in keys
    ]


def _first_middle_last(count: int) -> list[int]:
    return sorted({0, count // 2, count - 1}) if count else []


def _drift(validation: Sequence[Mapping[str, Any]]) -> tuple[Figure, str]:
    """How far the run went from its parent, drawn and in words."""
    in_bits = any(is_number(r.get("pretraining_bits_per_byte")) for r in validation)
    key, unit = ("bits_per_byte", "bits per byte") if in_bits else ("loss_nats", "nats per token")
    kl, pretraining = _curve(validation, "kl_nats"), _curve(validation, f"pretraining_{key}")
    last = validation[-1]
    told = f"KL to the parent {last['kl_nats']:.4f} nats per token at step {last['step']:,}."
    values = pretraining.finite()[1]
    if len(values):
        told += f" Pretraining text: {values[0]:.4f} before, {values[-1]:.4f} {unit} now."
    return drift_plot(kl, pretraining, unit), told


def _unit(record: Mapping[str, Any] | None) -> str:
    """What a validation's loss is measured in: a loss of preferences is one of pairs."""
    return "nats per pair" if record and "num_pairs" in record else "nats per token"


def _describe_losses(best: Mapping[str, Any] | None) -> str:
    told = f"Training and validation loss in {_unit(best)} against the step."
    if best:
        told += f" The best validation loss is {best['loss_nats']:.4f} at step {best['step']:,}."
    return told


def _run_cards(
    train: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    manifest: Mapping[str, Any],
) -> list[tuple[str, str, str]]:
    """The headline figures: label, value, what it is measured in or where."""
    cards = []
    if best:
        nats = float(best["loss_nats"])
        cards.append(
            ("Best validation loss", f"{nats:.4f}", f"{_unit(best)}, step {best['step']:,}")
        )
        if is_number(best.get("bits_per_byte")):
            cards.append(("Bits per byte", f"{best['bits_per_byte']:.4f}", "at the same step"))
        if is_number(best.get("accuracy")):
            low, high = best["accuracy_interval"]
            note = f"{low:.1%} to {high:.1%}; the longer answer {best['longer_accuracy']:.1%}"
            cards.append(("Preferred rightly", f"{best['accuracy']:.1%}", note))
        else:
            cards.append(("Perplexity", f"{math.exp(min(nats, 700)):,.4g}", "per token"))
    else:
        cards.append(("Best validation loss", "–", "no validation yet"))
    records = [*train[-1:], *validation[-1:]]
    if records:
        cards.append(("Steps", f"{max(r['step'] for r in records):,}", "optimizer steps"))
    for key, label, show, unit in (
        ("tokens", "Tokens", compact, "trained on"),
        ("seconds", "Time", duration, "of training"),
    ):
        if numbers := [float(r[key]) for r in records if is_number(r.get(key))]:
            cards.append((label, show(max(numbers)), unit))
    speeds = [
        r["tokens_per_second"] for r in train[-RECENT:] if is_number(r.get("tokens_per_second"))
    ]
    if speeds:
        fractions = [r.get("matrix_rate_fraction") for r in train[-RECENT:]]
        known = [f for f in fractions if isinstance(f, float) and math.isfinite(f)]
        note = f"{median(known):.0%} of the matrix rate" if known else "median of late steps"
        cards.append(("Tokens per second", compact(round(median(speeds))), note))
    for key, value in flatten(manifest):
        if key.rpartition(".")[2] in ("parameters", "num_parameters", "model_parameters"):
            cards.append(("Parameters", compact(float(value)), "in the model"))
            break
    return cards


def _ladder_cards(
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


def _table_figure(value: object, style: str = "") -> str:
    """A number for a table, or a dash where there is none."""
    if not is_number(value):
        return "–"
    if style == "duration":
        return duration(value)
    return style % value if style else compact(round(value))


def duration(seconds: int | float) -> str:
    """A time that is short to read: 8.3 s · 12 min 5 s · 2 h 45 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def existing(path: Path, kind: str) -> Path:
    """`path`, if it is there.

    Raises:
        ConfigError: it is not.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file; is {path.parent} a {kind} folder?")
    return path


def _sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each section; those outside of any come first, under no name."""
    plain = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    tables = {key: dict(flatten(v)) for key, v in config.items() if isinstance(v, Mapping)}
    return ({"": plain} if plain else {}) | {key: v for key, v in tables.items() if v}


def draw(folder: Path, stem: str, figure: Figure, description: str) -> Markup:
    """Save `figure` among the folder's plots; return it ready for the page."""
    return Markup(inline_svg(save(figure, folder / "plots" / stem), description))


def page(template: str, **values: Any) -> str:
    """The text of a page, self-contained."""
    environment = Environment(
        loader=PackageLoader("foundling.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"compact": compact, "duration": duration, "figure": _table_figure}
    environment.filters["visible"] = guard_story.visible
    environment.globals |= {"theme": theme_variables}
    return environment.get_template(template).render(**values)
