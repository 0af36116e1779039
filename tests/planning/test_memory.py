"""What a step is said to take, beside the tensors that are alive in a real run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from foundling.planning.memory import Planned, layouts
from foundling.planning.subject import Subject, subject_of
from foundling.planning.tally import Tally
from foundling.stages.assembly import run_stage
from foundling.stages.job import Stage
from foundling.stages.pretrain import PRETRAIN, PretrainConfig
from foundling.stages.settings import StageConfig

QUIET = (
    "training.steps=3",
    "schedule.warmup_steps=1",
    "validation.every=100",
    "validation.prompts=[]",
    "checkpoint.every=100",
    "guard.snapshot_mb=0",  # copies in the host's memory, here the same
)
(ALONE,) = layouts(1, 8)


def measured(stage: Stage[Any, Any], config: StageConfig, out: Path) -> float:
    """The most bytes of tensors that are alive in the second step of a run."""
    peaks = []

    def seam(site: str, step: int, samples: Sequence[int], value: Any) -> Any:
        if site == "state" and step == 1:
            tally.forget()
        if site == "state" and step == 2:
            peaks.append(tally.peak)
        return value

    with Tally() as tally:
        run_stage(stage, config, out, seam=seam)
    return peaks[0]


def planned(subject: Subject, rows: int) -> float:
    """What a process takes that works a step in so many rows at a time."""
    return Planned(subject, [ALONE], subject.batch_size).at(rows)[0].total


SIZES = ((32, 2, 64, 8), (64, 5, 128, 2), (96, 3, 32, 16))
"""Width, layers, context and rows."""
FEW = [(SIZES[0], "fp32", False), (SIZES[1], "bf16", False), (SIZES[2], "fp32", True)]
ALL = [(size, precision, anew) for size in SIZES for precision in ("fp32", "bf16")
       for anew in (False, True)]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "precision", "checkpoints"),
    [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in FEW)],
)
def test_a_pretraining_run_takes_what_was_planned(
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    size: tuple[int, int, int, int],
    precision: str,
    checkpoints: bool,
) -> None:
    dim, layers, context, rows = size
    config = tiny(
        *QUIET,
        f"context={context}",
        f"model.dim={dim}",
        f"model.num_layers={layers}",
        f"training.batch_size={2 * rows}",
        f"training.micro_batch_size={rows}",
        f"training.precision={precision}",
        f"training.checkpoint_activations={str(checkpoints).lower()}",
    )
    real = measured(PRETRAIN, config, tmp_path / "run")
    assert planned(subject_of(config), rows) == pytest.approx(real, rel=0.1)
