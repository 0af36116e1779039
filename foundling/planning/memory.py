"""The memory of each GPU, by how the model lies on them, and the most rows that fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from foundling.models.language_model import LanguageModel
from foundling.planning.step import Peaks, worst_moments
from foundling.planning.subject import Subject
from foundling.planning.tally import Kind, Shares

STATE = (Kind.WEIGHTS, Kind.GRADIENTS, Kind.OPTIMIZER, Kind.REFERENCE)
"""What a sharded run keeps a part of in each process."""
GATHERED = "gathered"
"""Weights and gradients that are whole for a while, and what they are sent from."""


@dataclass(frozen=True)
class Layout:
    """How a model lies on several processes."""

    name: str
    """none, full or hybrid, as `distributed.shard`."""
    gpus: int
    shards: int
    """Processes that a copy of the model is spread over."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at the worst moment of a step."""

    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def layouts(gpus: int, per_machine: int) -> list[Layout]:
    """Every way to lay a model on so many GPUs; hybrid: a copy on each machine."""
    found = [Layout("none", gpus, 1)]
    if gpus > 1:
        found.append(Layout("full", gpus, gpus))
    if gpus > per_machine and gpus % per_machine == 0:
        found.append(Layout("hybrid", gpus, per_machine))
    return found


class Planned:
    """The memory of a run, by rows that each process works at a time and by layout.

    Of one process it is what `worst_moments` finds. Of several, weights, gradients, optimizer and
    reference are divided as FSDP2 divides them, along the first axis and rounded up, and what
    `gathered` says is added.

    Args:
        rows: that a process has of a step.
    """

    def __init__(self, subject: Subject, ways: Sequence[Layout], rows: int) -> None:
        self.subject, self.ways, self.rows = subject, ways, rows
        self.model = subject.skeleton()
        self._views = [_shares(self.model, way) for way in ways]
        self._found: dict[int, Peaks] = {}

    def at(self, rows: int) -> list[Memory]:
        """What each layout takes where so many rows are worked at a time."""
        passes = math.ceil(self.rows / rows)
        if rows not in self._found:
            self._found[rows] = worst_moments(self.subject, rows, passes, self._views)
        return [
            _worst(self._found[rows], number, view, gathered(self.subject, self.model, way, passes))
            for number, (way, view) in enumerate(zip(self.ways, self._views, strict=True))
        ]

    def most_rows(self, number: int, room: float) -> int:
        """The largest micro-batch that fits into `room` bytes in this layout; 0: none does.

        A longer micro-batch takes more in a straight line, but where its worst moment is another
        one: what the line says is looked at, and the line drawn anew.
        """
        low, high = 1, self.rows
        found = {low: self.at(low)[number].total}
        if found[low] > room:
            return 0
        rows = min(2, high)
        while low < high:
            found[rows] = self.at(rows)[number].total
            low, high = (rows, high) if found[rows] <= room else (low, rows - 1)
            a, b = sorted(found, key=lambda n: abs(found[n] - room))[:2]
            slope = (found[a] - found[b]) / (a - b)
            guess = a + (room - found[a]) / slope if slope > 0 else high
            rows = min(max(int(guess), low + 1), high)
        return low


def gathered(
    subject: Subject, model: LanguageModel, way: Layout, passes: int
) -> tuple[float, float]:
    """Bytes of what FSDP2 keeps whole: while activations are at their most, and at the end.

    With c bytes a weight in the products: where nothing is sharded all weights stay gathered, c
    each, and through several passes their gradients, 4 each. Else the embedding and the head are
    gathered throughout, c a weight, and the gradient of the head, c again; of the largest block
    there are its weights, those of the next one and the buffer that these were received in (3 c),
    its gradients (c) and those that are being sent (4). The last to be sent are those of embedding
    and head.

    Source: torch.distributed.fsdp, `_fsdp_param_group.py` and `_fsdp_collectives.py`: what is
    gathered is received in one buffer and copied out, with the next one in flight; gradients are
    copied into one fp32 buffer that is kept until the next reduction.
    """
    if way.gpus == 1:
        return 0.0, 0.0
    width = torch.finfo(subject.precision).bits // 8
    blocks = getattr(model.context, "blocks", [])
    block = max((_numel(module) for module in blocks), default=0)
    everything = _numel(model)
    root = everything - sum(_numel(module) for module in blocks)
    if way.shards == 1:
        learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
        kept = width * everything + 4 * learned * (passes > 1)
        sent = (width + 4) * max(block, root)
        return kept + sent, kept + sent
    during = 2 * width * root + (4 * width + 4) * block
    return during, 2 * width * root + 4 * max(root, block) + width * block


def _worst(peaks: Peaks, number: int, shares: Shares, whole: tuple[float, float]) -> Memory:
    found = []
    for (phase, view), moment in peaks.items():
        if view == number:
            parts = {kind.value: size * shares.get(kind, 1.0) for kind, size in moment.items()}
            if phase == "update":  # what it works on is a part, too
                parts[Kind.ACTIVATIONS.value] *= shares.get(Kind.WEIGHTS, 1.0)
            extra = 0.0 if phase == "update" else whole[phase == "end"]
            found.append(Memory({**parts, GATHERED: extra}))
    return max(found, key=lambda memory: memory.total)


def _shares(model: nn.Module, way: Layout) -> Shares:
    if way.gpus == 1:
        return {}
    parameters = list(model.parameters())
    here = sum(math.ceil(len(p) / way.shards) * (p.numel() // len(p)) for p in parameters)
    share = here / sum(p.numel() for p in parameters)
    return {**dict.fromkeys(STATE, share), Kind.COPIES: 0.0}


def _numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
