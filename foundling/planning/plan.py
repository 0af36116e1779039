"""A plan: what a run takes on some GPUs, how long it lasts and what it costs."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.models.language_model import LanguageModel
from foundling.planning.cost import ASSUMES, DAY, HOUR, RULES, Gpu
from foundling.planning.memory import Planned, layouts, sampled
from foundling.planning.subject import Subject
from foundling.stages.pretrain import PretrainConfig

PER_MACHINE = 8
UTILISATION = 0.4
"""Of the peak rate; Llama 3 reached 0.38 to 0.43 on 8,192 to 16,384 H100. Source: Grattafiori et
al. 2024, The Llama 3 Herd of Models, table 4."""
RESERVE = 0.1
"""The share of the memory that is left for the CUDA context, NCCL and what the allocator loses."""


@dataclass(frozen=True)
class Means:
    """What there is to train on."""

    gpus: int = 1
    per_machine: int = PER_MACHINE
    gpu: Gpu | None = None
    memory: float | None = None
    """Bytes of each; None: as the data sheet says."""
    utilisation: float = UTILISATION
    price: float | None = None
    """Of a GPU for an hour."""
    reserve: float = RESERVE

    @property
    def room(self) -> float | None:
        """Bytes that tensors may take in each."""
        size = self.memory or (self.gpu.memory if self.gpu else None)
        return None if size is None else size * (1 - self.reserve)


def plan(
    subject: Subject,
    means: Means,
    *,
    tokens: float | None = None,
    budget: float | None = None,
) -> dict[str, Any]:
    """What `foundling plan --json` prints, in bytes, FLOP, days and the currency of the price.

    Args:
        tokens: that the run reads; None: as its settings say, if they do.
        budget: what may be spent; the sizes that make the best of it are added.

    Raises:
        ConfigError: the settings and the means do not fit together.
    """
    model = subject.skeleton()
    training = subject.config.training
    if subject.batch_size < means.gpus:
        raise ConfigError(
            f"training.batch_size = {subject.batch_size}: {means.gpus} GPUs cannot share so few "
            "rows; give a row for each at the least."
        )
    if means.gpus > 1 and training.weights == "bf16" and not subject.adapts:
        raise ConfigError(
            'training.weights = "bf16": several GPUs keep the weights in fp32; leave it out.'
        )
    share = math.ceil(subject.batch_size / means.gpus)
    rows = min(training.micro_batch_size or share, share)
    step_tokens = subject.batch_size * subject.time
    if tokens is None and (steps := subject.num_steps) is not None:
        tokens = float(steps * step_tokens)
    named = {torch.bfloat16: "bf16", torch.float32: "fp32"}
    return {
        "parameters": model.num_parameters(),
        "precision": named[subject.precision],
        "tokens_a_row": subject.time,
        "tokens_a_step": step_tokens,
        "gpus": means.gpus,
        "rows_a_gpu": share,
        "micro_batch_size": rows,
        "room_bytes": means.room,
        "layouts": _layouts(subject, means, rows, share),
        "work": work(subject, means, tokens, recomputed=subject.checkpoints),
        "best_sizes": _best_sizes(subject, means, tokens, budget),
    }


def _layouts(subject: Subject, means: Means, rows: int, share: int) -> list[dict[str, Any]]:
    """Every way to lay the model on the GPUs, with and without activation checkpointing."""
    distributed, per_copy = subject.config.distributed, means.per_machine
    if distributed.shard == "hybrid":
        _, per_copy = distributed.shape(means.gpus, means.per_machine)
    ways, room, found = layouts(means.gpus, per_copy), means.room, []
    for anew in (False, True):
        planned = Planned(replace(subject, checkpoints=anew), ways, share)
        if anew and not hasattr(planned.model.context, "blocks"):
            break
        for number, (way, size) in enumerate(zip(ways, planned.at(rows), strict=True)):
            most = None if room is None else planned.most_rows(number, room)
            samples = sampled(subject, planned.model, way) if subject.writes_samples else 0.0
            validation = size.kept() + samples
            found.append({
                "shard": way.name,
                "shards": way.shards,
                "checkpoint_activations": anew,
                "bytes": {name: round(part) for name, part in size.parts.items()},
                "total_bytes": round(size.total),
                "fits": None if room is None else size.total <= room,
                "largest_micro_batch": most,
                "samples_bytes": round(validation) if samples else None,
                "samples_fit": None if room is None or not samples else validation <= room,
            })  # fmt: skip
    return found


def work(
    subject: Subject, means: Means, tokens: float | None, *, recomputed: bool
) -> dict[str, Any]:
    """FLOPs, tokens a day, time and cost of `tokens`.

    The model's own count of a token's work; a reference that reads the batches too adds a forward
    pass, a third of what training takes, and so does the recomputation of activations.
    """
    flops = float(subject.skeleton().flops_per_token(subject.time))
    forward = _plain(subject).flops_per_token(subject.time) / 3
    done = flops + forward * subject.has_live_reference + forward * recomputed
    found: dict[str, Any] = {
        "model_flops_a_token": flops,
        "flops_a_token": done,
        "tokens": tokens,
        "flops": None if tokens is None else done * tokens,
        "utilisation": means.utilisation,
    }
    if means.gpu is not None:
        peak = means.gpu.bf16 if subject.precision == torch.bfloat16 else means.gpu.fp32
        rate = means.gpus * peak * means.utilisation
        found |= {"rate_flops": rate, "tokens_a_day": rate / done * DAY}
        if tokens is not None:
            found["days"] = done * tokens / rate / DAY
            found["gpu_hours"] = found["days"] * 24 * means.gpus
            if means.price is not None:
                found["cost"] = found["gpu_hours"] * means.price
    return found


def _plain(subject: Subject) -> LanguageModel:
    """The model as it is when all of it learns."""
    return models.skeleton(subject.spec)


def _best_sizes(
    subject: Subject, means: Means, tokens: float | None, budget: float | None
) -> dict[str, Any] | None:
    """The sizes of the lowest loss for the work that the budget, or the run itself, amounts to."""
    if not isinstance(subject.config, PretrainConfig):
        if budget is not None:
            raise ConfigError("--budget: the best sizes are those of pretraining; leave it out.")
        return None
    if budget is not None:
        if means.gpu is None or means.price is None:
            raise ConfigError("--budget: give --gpu and --price too, which say what it buys.")
        peak = means.gpu.bf16 if subject.precision == torch.bfloat16 else means.gpu.fp32
        flops = budget / means.price * HOUR * peak * means.utilisation
    elif tokens is not None:
        flops = float(subject.skeleton().flops_per_token(subject.time)) * tokens
    else:
        return None
    rules = []
    for rule in RULES:
        parameters, best = rule.optimum(flops)
        rules.append({
            "source": rule.source,
            "parameters": parameters,
            "tokens": best,
            "loss_nats": rule.loss_nats(parameters, best),
        })  # fmt: skip
    return {"flops": flops, "rules": rules, "assumes": ASSUMES}
