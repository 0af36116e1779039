"""The memory of each GPU, by how the model lies on them, and the most rows that fit."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from foundling.models.language_model import LanguageModel
from foundling.planning.step import Peaks, worst_moments
from foundling.planning.subject import Subject
from foundling.planning.tally import Kind, Shares

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

    def kept(self) -> float:
        """What is there between two steps."""
        between = (Kind.WEIGHTS, Kind.OPTIMIZER, Kind.REFERENCE)
        return sum(self.parts[kind.value] for kind in between)

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def layouts(gpus: int, per_copy: int) -> list[Layout]:
    """Every way to lay a model on so many GPUs; hybrid: a copy on each `per_copy`."""
    found = [Layout("none", gpus, 1)]
    if gpus > 1:
        found.append(Layout("full", gpus, gpus))
    if gpus > per_copy and gpus % per_copy == 0:
        found.append(Layout("hybrid", gpus, per_copy))
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
        self._views = [_shares(subject, self.model, way) for way in ways]
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

    With c bytes a weight in the products, as `distributed.gather` is or `auto` decides:

    layer: the embedding and the head are gathered throughout, c a weight, and the gradient of the
    head, c again; of the largest block there are its weights, those of the next one and the buffer
    that these were received in (3 c), its gradients (c) and those that are being sent (4). The last
    to be sent are those of embedding and head.
    pass: all weights are gathered, c each; at the end as with layer.
    step: all weights are gathered throughout, and through several passes their gradients are whole
    instead of a part, 4 each.

    What is frozen has no gradients, and where nothing is sharded it is not gathered at all.

    Source: torch.distributed.fsdp, `_fsdp_param_group.py` and `_fsdp_collectives.py`: what is
    gathered is received in one buffer and copied out, with the next one in flight; gradients are
    copied into one fp32 buffer that is kept until the next reduction.
    """
    if way.gpus == 1:
        return 0.0, 0.0
    width = torch.finfo(subject.precision).bits // 8
    blocks = list(getattr(model.context, "blocks", []))

    def sizes(learned: bool) -> tuple[int, int, int]:
        """Of everything, of the largest block and of what is in none."""
        each = [_numel(module, learned) for module in blocks]
        everything = _numel(model, learned)
        return everything, max(each, default=0), everything - sum(each)

    learned, learned_block, learned_root = sizes(learned=True)
    everything, block, root = sizes(learned=way.shards == 1)
    end = width * (root + learned_root) + 4 * max(learned_root, learned_block) + width * block
    gathers = subject.config.distributed.gathers(model, way.shards)
    if gathers == "layer":
        first = width * (root + learned_root)
        return first + 3 * width * block + (width + 4) * learned_block, end
    sent = max(width * block, (width + 4) * max(learned_block, learned_root))
    during: float = width * everything + sent
    if gathers == "pass":
        return during, end
    if passes > 1:
        part = _shares(subject, model, way)[Kind.GRADIENTS]
        during += 4 * learned * (1 - part)
    return during, during


def sampled(subject: Subject, model: LanguageModel, way: Layout) -> float:
    """Bytes of a validation that writes samples: every process gathers the whole model."""
    if way.shards == 1:
        return 0.0
    width = torch.finfo(subject.precision).bits // 8
    return float(width * _numel(model, learned=False))


def _worst(peaks: Peaks, number: int, shares: Shares, whole: tuple[float, float]) -> Memory:
    found = []
    for (phase, view), moment in peaks.items():
        if view == number:
            parts = {kind.value: size * shares.get(kind, 1.0) for kind, size in moment.items()}
            if phase == "update":  # what it works on is a part, too
                parts[Kind.ACTIVATIONS.value] *= shares.get(Kind.OPTIMIZER, 1.0)
            extra = 0.0 if phase == "update" else whole[phase == "end"]
            found.append(Memory({**parts, GATHERED: extra}))
    return max(found, key=lambda memory: memory.total)


def _shares(subject: Subject, model: nn.Module, way: Layout) -> Shares:
    """The part of each kind that lies on a GPU; buffers (quantised weights) lie on each, whole."""
    if way.gpus == 1:
        return {}
    offloads = subject.config.distributed.cpu_offload

    def here(parameter: nn.Parameter) -> float:
        is_spread = way.shards > 1 or parameter.requires_grad
        if offloads and is_spread:
            return 0.0
        return math.ceil(len(parameter) / way.shards) / len(parameter)

    def share(parameters: Iterable[nn.Parameter], whole: int = 0) -> float:
        sizes = [(p.nbytes, p.nbytes * here(p)) for p in parameters]
        return (whole + sum(part for _, part in sizes)) / (whole + sum(size for size, _ in sizes))

    learned = share(p for p in model.parameters() if p.requires_grad)
    return {
        Kind.WEIGHTS: share(model.parameters(), sum(b.nbytes for b in model.buffers())),
        Kind.GRADIENTS: learned,
        Kind.OPTIMIZER: learned,
        Kind.REFERENCE: 1.0 if way.shards == 1 else share(model.parameters()),
        Kind.COPIES: 0.0,
    }


def _numel(module: nn.Module, learned: bool) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not learned)
