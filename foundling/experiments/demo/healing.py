"""An act of the demonstration: a poisoned stream, with the guard and without."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foundling.runs import checkpoint
from foundling.runs.records import in_words
from foundling.runs.run import Run
from foundling.stages.machine import with_precision
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.training.amendments import Amendments
from foundling.training.guard.settings import GuardSettings

say = logging.getLogger(__name__).info

POISONED = range(120 * 16, 130 * 16)
"""Ten batches of noise in a row, from step 120 on."""


def heal(config: PretrainConfig, out: Path) -> dict[str, Any]:
    """Train on a poisoned stream, with the guard and without, and check what the guard made of it.

    The check is a third run, without guard and poison, that is told from the start to leave out
    what the guard left out. A precision `auto` is measured once, in the first run.
    """
    off = config.model_copy(update={"guard": GuardSettings(enabled=False)})
    unguarded = pretrain(off, out / "unguarded", seam=poison)
    precision = unguarded.manifest["precision"]
    config, off = with_precision(config, precision), with_precision(off, precision)
    guarded = pretrain(config, out / "guarded", seam=poison)
    told = off.model_copy(update={"amendments": Amendments(**guarded.manifest["amendments"])})
    clean = pretrain(told, out / "clean")
    losses = {
        run.folder.name: run.records()["validation"][-1]["loss_nats"]
        for run in (unguarded, guarded, clean)
    }
    same = _weights(guarded) == _weights(clean)
    summary = guarded.summary()
    say(
        f"   the guard: {in_words(summary['guard'])}, {summary['samples_left_out']:,} samples left "
        f"out\n   validation loss in nats: unguarded {losses['unguarded']:.3f}, guarded "
        f"{losses['guarded']:.3f}\n   a clean run told to leave those samples out has "
        f"{'the same weights, bit for bit' if same else 'OTHER weights'}"
    )
    return {"loss_nats": losses, "acts": summary["guard"], "same_as_clean": same}


def poison(site: str, step: int, samples: Sequence[int], value: Any) -> Any:
    """The training loop's seam: noise in the place of the poisoned samples."""
    rows = [row for row, sample in enumerate(samples) if sample in POISONED]
    if site != "batch" or not rows:
        return value
    noise = torch.Generator().manual_seed(step)
    tokens, targets = value.tokens.clone(), value.targets.clone()
    high = int(max(tokens.max(), targets.max()))
    tokens[rows] = torch.randint(high, tokens[rows].shape, generator=noise)
    targets[rows] = torch.randint(high, targets[rows].shape, generator=noise)
    return replace(value, tokens=tokens, targets=targets)


def _weights(run: Run) -> bytes:
    newest = checkpoint.committed(run.checkpoints)[-1]
    return (newest.model / "model.safetensors").read_bytes()
