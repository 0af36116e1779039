"""Writes the report of a run: how it learned, what the guard did, what it wrote."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from foundling.base.config import flatten, load_json, load_toml
from foundling.reports import guard_story
from foundling.reports.page import draw, duration, existing, write_page
from foundling.reports.run_plots import (
    Curve,
    learning_rate_plot,
    loss_by_position_plot,
    loss_plot,
    validation_curves,
)
from foundling.reports.style import compact
from foundling.reports.tuning_plots import changes_plot, drift_plot, preferred_plot
from foundling.runs.records import (
    best_validation,
    bits_per_nat,
    by_split,
    is_number,
    merge_events,
    read_records,
    straggler_in_words,
    undone,
)

MAX_SAMPLES, MAX_EVENTS, MAX_STRAGGLERS = 30, 200, 20  # on the page; the files keep all
RECENT = 200  # training records that today's speed is the median of
Records = Sequence[Mapping[str, Any]]


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
    manifest = load_json(path) if (path := run_dir / "manifest.json").exists() else {}
    config = load_toml(path) if (path := run_dir / "config.toml").exists() else {}
    best = best_validation(validation)
    undone_curves = guard_story.undone_curves(train, undone(records), events)
    figures = {
        "loss": _loss(train, validation, best, events, undone_curves),
        "learning_rate": (learning_rate_plot(_learning_rates(train)), "Learning rate by step."),
        **_by_source(validation),
        **_by_position(validation),
        **_preferences(validation),
        **_drift(validation),
    }
    samples = [record for record in reversed(splits["samples"]) if record.get("samples")]
    return write_page(
        run_dir,
        "run.html.j2",
        name=run_dir.resolve().name,
        cards=[*_cards(train, validation, best, manifest), *guard_story.card(events)],
        figures={stem: draw(run_dir, stem, *figure) for stem, figure in figures.items()},
        of_pairs="preferred" in figures,
        samples=samples[:MAX_SAMPLES],
        samples_left_out=max(0, len(samples) - MAX_SAMPLES),
        stragglers=_stragglers(records),
        deeds=guard_story.deeds(events),
        events=guard_story.told(events)[::-1][:MAX_EVENTS],
        events_left_out=max(0, len(events) - MAX_EVENTS),
        config=_sections(config),
        lineage=dict(flatten(manifest)),
    )


def _stragglers(records: Records) -> list[str]:
    """Which processes the others waited for; the latest first."""
    found = [record for record in records if record.get("split") == "straggler"]
    return [straggler_in_words(record) for record in found[: -MAX_STRAGGLERS - 1 : -1]]


def _loss(
    train: Records,
    validation: Records,
    best: Mapping[str, Any] | None,
    events: Sequence[Mapping[str, Any]],
    undone: Sequence[Curve],
) -> tuple[Figure, str]:
    # Validation is the answers' loss alone; beside an anchor the training's is shown so too.
    key = "cross_entropy" if any("kl" in record for record in train) else "loss_nats"
    title = f"Loss: best {best['loss_nats']:.3f} {_unit(best)} on validation" if best else "Loss"
    figure = loss_plot(
        Curve.of(train, key), Curve.of(validation, "loss_nats"), events, undone,
        bits_per_nat=bits_per_nat(validation), title=title, unit=_unit(best),
    )  # fmt: skip
    told = f"Training and validation loss in {_unit(best)} against the step."
    if best:
        told += f" The best validation loss is {best['loss_nats']:.4f} at step {best['step']:,}."
    return figure, f"{told} {guard_story.deeds(events)}".strip()


def _unit(record: Mapping[str, Any] | None) -> str:
    """The unit of a validation's loss."""
    return "nats per pair" if record and "num_pairs" in record else "nats per token"


def _learning_rates(train: Records) -> list[Curve]:
    """`learning_rate` and each `learning_rate_NAME`; next to those the plain one is AdamW's."""
    keys = [key for key in (train[-1] if train else ()) if key.startswith("learning_rate")]
    plain = "adamw" if len(keys) > 1 else ""
    return [
        Curve.of(train, key, key.removeprefix("learning_rate").strip("_") or plain) for key in keys
    ]


def _by_source(validation: Records) -> dict[str, tuple[Figure, str]]:
    """The loss on the text of each source of a mixture, by step."""
    known = [record for record in validation if record.get("by_source")]
    if not known:
        return {}
    last = known[-1]["by_source"]
    curves = [
        Curve(
            [record["step"] for record in known],
            [record["by_source"].get(name, {}).get("loss_nats") for record in known],
            name,
        )
        for name in last
    ]
    told = ", ".join(f"{name} {of['loss_nats']:.4f}" for name, of in last.items())
    told = f"Validation loss by source at step {known[-1]['step']:,}: {told} nats per token."
    title = "Validation loss by source"
    figure = validation_curves(curves, "nats per token", title=title, over="step")
    return {"loss_by_source": (figure, told)}


def _by_position(validation: Records) -> dict[str, tuple[Figure, str]]:
    """The loss by position at the first, the middle and the last validation."""
    known = [record for record in validation if record.get("loss_by_position")]
    if not known:
        return {}
    shown = {known[i]["step"]: known[i] for i in (0, len(known) // 2, len(known) - 1)}
    curves = {f"step {step:,}": r["loss_by_position"] for step, r in reversed(shown.items())}
    told = f"Validation loss by position in the context, at {', '.join(curves)}."
    return {"loss_by_position": (loss_by_position_plot(curves), told)}


def _preferences(validation: Records) -> dict[str, tuple[Figure, str]]:
    pairs = [record for record in validation if "longer_accuracy" in record]
    if not pairs:
        return {}
    changed = "Change of either answer's log-probability, by step."
    return {
        "preferred": (preferred_plot(pairs), "Accuracy on held-out pairs, by step."),
        "changes": (changes_plot(pairs), changed),
    }


def _drift(validation: Records) -> dict[str, tuple[Figure, str]]:
    """The drift from the parent."""
    if not any(is_number(record.get("kl_nats")) for record in validation):
        return {}
    in_bits = any(is_number(r.get("pretraining_bits_per_byte")) for r in validation)
    key, unit = ("bits_per_byte", "bits per byte") if in_bits else ("loss_nats", "nats per token")
    kl, pretraining = Curve.of(validation, "kl_nats"), Curve.of(validation, f"pretraining_{key}")
    last = validation[-1]
    told = f"KL to the parent {last['kl_nats']:.4f} nats per token at step {last['step']:,}."
    values = pretraining.finite()[1]
    if len(values):
        told += f" Pretraining text: {values[0]:.4f} before, {values[-1]:.4f} {unit} now."
    return {"drift": (drift_plot(kl, pretraining, unit), told)}


def _cards(
    train: Records,
    validation: Records,
    best: Mapping[str, Any] | None,
    manifest: Mapping[str, Any],
) -> list[tuple[str, str, str]]:
    """The headline figures: label, value, unit or note."""
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
            note = f"{low:.1%} to {high:.1%}"
            if "longer_accuracy" in best:
                note += f"; the longer answer {best['longer_accuracy']:.1%}"
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


def _sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each section; those outside of any section come first, without a name."""
    plain = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    tables = {key: dict(flatten(v)) for key, v in config.items() if isinstance(v, Mapping)}
    return ({"": plain} if plain else {}) | {key: v for key, v in tables.items() if v}
