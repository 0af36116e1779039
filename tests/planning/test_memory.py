"""What a step is said to take, beside the tensors that are alive in a real run."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling import hamlet
from foundling.base.config import override
from foundling.data.reading import read_conversations
from foundling.models.batch import IGNORE
from foundling.planning.memory import Layout, Planned, gathered, layouts, sampled
from foundling.planning.step import _traced, worst_moments
from foundling.planning.subject import Subject, subject_of
from foundling.planning.tally import Kind, Tally
from foundling.stages.assembly import run_stage
from foundling.stages.dpo import DPO, DpoConfig
from foundling.stages.job import Stage
from foundling.stages.pretrain import PRETRAIN, PretrainConfig, pretrain
from foundling.stages.settings import StageConfig
from foundling.stages.sft import SFT, SftConfig

QUIET = (
    "training.steps=3",
    "schedule.warmup_steps=1",
    "validation.every=100",
    "validation.prompts=[]",
    "checkpoint.every=100",
    "guard.snapshot_mb=0",  # copies in the host's memory, here the same
)
(ALONE,) = layouts(1, 8)


def measured(
    stage: Stage[Any, Any], config: StageConfig, out: Path
) -> tuple[float, torch.Size, float]:
    """The most bytes of tensors that are alive in the second step of a run.

    With the shape of its batch, and the share of it that is learned.
    """
    peaks, shapes, shares = [], [], []

    def seam(site: str, step: int, samples: Sequence[int], value: Any) -> Any:
        if site == "state" and step == 1:
            tally.forget()
        if site == "state" and step == 2:
            peaks.append(tally.peak)
        if site == "batch" and step == 1:
            shapes.append(value.targets.shape)
            shares.append((value.targets != IGNORE).float().mean().item())
        return value

    with Tally() as tally:
        run_stage(stage, config, out, seam=seam)
    return peaks[0], shapes[0], shares[0]


def planned(subject: Subject, rows: int) -> float:
    """What a process takes that works a step in so many rows at a time."""
    return Planned(subject, [ALONE], subject.batch_size).at(rows)[0].total


SIZES = ((32, 2, 64, 8), (64, 5, 128, 2), (96, 3, 32, 16))
"""Width, layers, context and rows."""
FEW = [(SIZES[0], "fp32", False)]
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
    real, _, _ = measured(PRETRAIN, config, tmp_path / "run")
    assert planned(subject_of(config), rows) == pytest.approx(real, rel=0.1)


@pytest.fixture(scope="module")
def parent(tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny("context=128", "model.dim=48", "training.steps=2", "validation.every=2")
    return pretrain(config, tmp_path_factory.mktemp("parent") / "run").folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Conversations, and pairs of a good and a bad answer."""
    folder = tmp_path_factory.mktemp("rows")
    hamlet.write_instructions(folder / "train.jsonl", 150, seed=1)
    found, _ = read_conversations([folder / "train.jsonl"])
    single = [c.messages for c in found if [m.role for m in c.messages] == ["user", "assistant"]]
    rows = [{"prompt": prompt.content, "chosen": answer.content, "rejected": "Ask someone else!"}
            for prompt, answer in single]  # fmt: skip
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "train.jsonl", folder / "pairs.jsonl"


def tuned(parent: Path, file: Path, *assignments: str) -> dict[str, Any]:
    base: dict[str, Any] = {
        "parent": str(parent),
        "data": {"files": [str(file)], "on_long": "drop", "validation_fraction": 0.2},
        "training": {"batch_size": 6, "micro_batch_size": 6, "precision": "fp32", "device": "cpu"},
        "forgetting": {"max_tokens": 200},
        "followers": {"report": False},
    }
    return override(base, (*QUIET, *assignments))


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        pytest.param(("training.precision=bf16",), marks=pytest.mark.slow),
        pytest.param(("anchor.strength=0.0",), marks=pytest.mark.slow),
        pytest.param(("adapter.rank=4",), marks=pytest.mark.slow),
        pytest.param(("anchor.reference=stored",), marks=pytest.mark.slow),
    ],
)
def test_instruction_tuning_takes_what_was_planned(
    parent: Path, files: tuple[Path, Path], tmp_path: Path, assignments: tuple[str, ...]
) -> None:
    config = SftConfig.parse(tuned(parent, files[0], *assignments))
    real, (rows, time), share = measured(SFT, config, tmp_path / "run")
    subject = replace(subject_of(config, supervised=share), time=time, batch_size=rows)
    assert planned(subject, rows) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        pytest.param(("training.precision=bf16",), marks=pytest.mark.slow),
        pytest.param(("reference.kind=live",), marks=pytest.mark.slow),
    ],
)
def test_preference_tuning_takes_what_was_planned(
    parent: Path, files: tuple[Path, Path], tmp_path: Path, assignments: tuple[str, ...]
) -> None:
    more = ("validation.kl_prompts=1", "validation.kl_tokens=2")
    config = DpoConfig.parse(tuned(parent, files[1], *more, *assignments))
    real, (rows, time), share = measured(DPO, config, tmp_path / "run")
    subject = replace(subject_of(config, supervised=share), time=time, batch_size=rows)
    assert planned(subject, rows) == pytest.approx(real, rel=0.1)


@pytest.mark.slow
def test_a_deep_model_follows_from_shallow_ones() -> None:
    """What two and three layers say of nine is what nine say."""
    values = {"context": 32, "model": {"dim": 32, "num_layers": 9, "num_heads": 2},
              "training": {"precision": "bf16", "batch_size": 8}}  # fmt: skip
    subject = subject_of(PretrainConfig.parse(values), 300)
    for one in (subject, replace(subject, checkpoints=True)):
        deep, followed = (f(one, 4, 2, [{}]) for f in (_traced, worst_moments))
        worst = [max(sum(moment.values()) for moment in peaks.values())
                 for peaks in (deep, followed)]  # fmt: skip
        assert worst[1] == pytest.approx(worst[0], rel=0.01)


@pytest.mark.slow
def test_the_largest_micro_batch_fits_and_one_row_more_does_not() -> None:
    values = {"context": 32, "model": {"dim": 32, "num_layers": 2, "num_heads": 2},
              "training": {"precision": "fp32", "batch_size": 64}}  # fmt: skip
    ways = layouts(2, 8)
    subject = subject_of(PretrainConfig.parse(values), 300)
    found = Planned(subject, ways, 32)
    for number in range(len(ways)):
        room = found.at(11)[number].total
        assert found.most_rows(number, room) == 11
        assert found.most_rows(number, room - 1) == 10
        assert found.most_rows(number, 1.0) == 0
        assert found.most_rows(number, 1e12) == 32


def of_several(passes: int, *assignments: str) -> dict[str, float]:
    """Bytes kept whole while activations are at their most, by layout on four GPUs."""
    values = {"context": 32, "model": {"dim": 32, "num_layers": 4, "num_heads": 2},
              "training": {"precision": "bf16", "batch_size": 8}}  # fmt: skip
    subject = subject_of(PretrainConfig.parse(override(values, assignments)), 300)
    model = subject.skeleton()
    return {way.name: gathered(subject, model, way, passes)[0] for way in layouts(4, 8)}


def test_what_is_gathered_follows_the_settings() -> None:
    """Gradients are whole or divided, never both; what stays longer takes more."""
    once, twice = of_several(1), of_several(2)
    assert twice == once, "where nothing is sharded the gradients are counted already"
    passed, stepped = (of_several(2, f"distributed.gather={how}") for how in ("pass", "step"))
    assert once["full"] < passed["full"] < stepped["full"]
    values = {"context": 32, "model": {"dim": 32, "num_layers": 2, "num_heads": 2},
              "training": {"precision": "bf16", "batch_size": 8}}  # fmt: skip
    offloaded = override(values, ("distributed.cpu_offload=true",))
    found = Planned(subject_of(PretrainConfig.parse(offloaded), 300), layouts(4, 8), 2).at(2)[1]
    assert [found.parts[k.value] for k in (Kind.WEIGHTS, Kind.GRADIENTS, Kind.OPTIMIZER)] == [0] * 3


def test_what_is_frozen_is_gathered_only_where_it_is_sharded(
    parent: Path, files: tuple[Path, Path]
) -> None:
    subjects = [
        subject_of(SftConfig.parse(tuned(parent, files[0], "training.precision=bf16", *more)))
        for more in ((), ("adapter.rank=4",), ("adapter.rank=4", "adapter.base=int8"))
    ]
    models = [subject.skeleton() for subject in subjects]
    (plain, adapted, _), time = models, subjects[0].time
    assert plain.flops_per_token(time) > adapted.flops_per_token(time)
    learned = adapted.num_trained_parameters()
    assert learned < adapted.num_parameters() / 4
    none, full = Layout("none", 4, 1), Layout("full", 4, 4)
    alike, spread = (gathered(subjects[1], adapted, way, 2)[0] for way in (none, full))
    assert alike < 10 * learned
    assert spread > 2 * adapted.num_parameters(), "the whole base, for a step"
    assert sampled(subjects[1], adapted, full) == 2 * adapted.num_parameters()
    assert sampled(subjects[1], adapted, none) == 0
    buffers = sum(buffer.nbytes for buffer in models[2].buffers())
    weights = Planned(subjects[2], [full], 2).at(2)[0].parts[Kind.WEIGHTS.value]
    assert weights > buffers, "quantised matrices lie on every GPU"
