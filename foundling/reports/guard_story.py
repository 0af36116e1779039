"""Describes, for a run's report, what the guard did."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from foundling.base import intervals
from foundling.base.intervals import Intervals
from foundling.reports.run_plots import Curve
from foundling.runs.records import (
    ACTS,
    NOTES,
    Records,
    count_kinds,
    in_words,
    is_number,
    samples_left_out,
)


def deeds(events: Sequence[Mapping[str, Any]]) -> str:
    """What the guard did in the whole run, in a sentence or two."""
    counts = count_kinds(events)
    acts = {kind: counts[kind] for kind in ACTS if kind in counts}
    notes = {kind: counts[kind] for kind in NOTES if kind in counts}
    sentences = []
    if acts:
        parts = [in_words(acts)]
        if left_out := samples_left_out(events):
            parts.append(f"{left_out:,} samples left out")
        cuts = [event["rate_cut"] for event in events if "rate_cut" in event]
        parts += [f"learning rate × {factor:g} from step {step:,}" for step, factor, _ in cuts]
        sentences.append(f"The guard acted {_times(acts)}: {'; '.join(parts)}.")
    if notes:
        sentences.append(f"It noted {in_words(notes)}{'' if acts else ' and changed nothing'}.")
    return " ".join(sentences)


def card(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """A headline figure, if the guard acted: label, value, note."""
    acts = count_kinds(event for event in events if event["kind"] in ACTS)
    left_out = f"{samples_left_out(events):,} samples left out"
    return [("The guard acted", _times(acts), left_out)] if acts else []


def told(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The events, each with the number of samples it newly left out and its batch in words."""
    result: list[dict[str, Any]] = []
    gone: Intervals = ()
    for event in events:
        before = intervals.size(gone)
        if "skipped" in event:
            gone = intervals.union([*gone, tuple(event["skipped"])])
        left_out = intervals.size(gone) - before
        batch = _batch(event.get("sequence_losses_nats", []))
        result.append({**event, "left_out": left_out, "batch": batch})
    return result


def undone_curves(
    train: Iterable[Mapping[str, Any]],
    stretches: Iterable[Records],
    events: Iterable[Mapping[str, Any]],
) -> list[Curve]:
    """The steps that the run undid, each stretch up to the batch that the guard rejected.

    A rejected batch without undone steps is a line of its own, from the loss before it.
    """
    paths = [[(record["step"], record["loss_nats"]) for record in s] for s in stretches]
    stands = {record["step"]: record["loss_nats"] for record in train}
    waiting = [*paths]
    for event in events:
        step, losses = event["step"], event.get("sequence_losses_nats")
        back = "to" in event and (event["to"] + 1, step)
        path = next((path for path in waiting if (path[0][0], path[-1][0]) == back), None)
        if path:
            waiting.remove(path)
        elif losses and step in stands:
            paths.append(path := [(step, stands[step])])
        if path and losses:
            finite = all(map(is_number, losses))
            path.append((step + 1, fmean(losses) if finite else math.inf))
    return [Curve([x for x, _ in path], [y for _, y in path]) for path in paths]


def _times(acts: Mapping[str, int]) -> str:
    count = sum(acts.values())
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _batch(losses: Sequence[float | str]) -> str:
    finite = [loss for loss in losses if is_number(loss)]
    parts = [f"{len(losses):,} sequences"]
    if finite:
        parts.append(f"median loss {median(finite):.2f} nats")
    if len(finite) < len(losses):
        parts.append(f"{len(losses) - len(finite):,} not finite")
    return ", ".join(parts)
