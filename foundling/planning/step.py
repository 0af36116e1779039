"""A step of a run on tensors without memory: how many bytes would be alive at the worst."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from foundling.base.precision import autocast
from foundling.planning.subject import Subject
from foundling.planning.tally import Kind, Moment, Shares, Tally, gradients_of, supposing
from foundling.training.optimizers import Optimizer

Peaks = Mapping[tuple[str, int], Moment]
"""The worst moment, by phase of the step and number of the view."""
FEW = 2, 3
"""Layers of the models that are looked at: each further layer adds what the third does."""


def worst_moments(subject: Subject, rows: int, passes: int, views: Sequence[Shares]) -> Peaks:
    """The worst moments of a step of `passes` passes over `rows` rows each, in one process.

    The stage's own objective, model and optimizer run forward, backward and update on fake tensors,
    as they would on a CPU, and every tensor is followed until it is freed: nothing is estimated
    for models of few layers. Of a deeper one, two of few layers are looked at, and the rest follows
    in a straight line, for all layers are alike.

    Source: fake tensors are torch's; torchtitan estimates memory the same way (its
    `scripts/estimate`).
    """
    layers = subject.num_layers
    if layers is None or layers <= max(FEW):
        return _traced(subject, rows, passes, views)
    low, high = (_traced(subject.with_layers(n), rows, passes, views) for n in FEW)
    return {place: _line(low[place], high[place], layers) for place in high if place in low}


def _line(low: Moment, high: Moment, layers: int) -> Moment:
    few, more = FEW
    steps = (layers - few) / (more - few)
    return {kind: low[kind] + steps * (high[kind] - low[kind]) for kind in Kind}


def _traced(subject: Subject, rows: int, passes: int, views: Sequence[Shares]) -> Peaks:
    config, tally = subject.config, Tally(views, subject.spec["vocab_size"])
    with supposing(tally) as supposed:
        model, objective, reference = subject.build()
        model.train()
        tally.mark([*model.parameters(), *model.buffers()], Kind.WEIGHTS)
        if reference is not None:
            tally.mark(reference.parameters(), Kind.REFERENCE)
        if isinstance(kept := getattr(getattr(objective, "reference", None), "weight", None),
                      torch.Tensor) and not subject.has_live_reference:  # fmt: skip
            tally.mark([kept], Kind.REFERENCE)
        sums = config.training.micro_batch_size is not None
        optimizer = Optimizer(model, config.optimizer, sums_gradients=sums)
        _fill(optimizer, tally)
        batch, places = subject.batch(rows), _Places(optimizer.names, tally)
        gradients_of(optimizer.names, tally, places.ready)
        if passes > 1:  # a later pass adds to the gradients of the first
            _add_gradients(optimizer)
            tally.mark([p.grad for p in optimizer.names if p.grad is not None], Kind.GRADIENTS)
        tally.forget()
        supposed.count = subject.num_supervised(rows)
        with autocast(torch.device("cpu"), subject.precision):
            loss = objective(model, batch)
        tally.phase = "last"
        torch.autograd.backward(loss.total)
        tally.phase = "update"
        optimizer.finish_gradients(1.0)
        if config.guard.enabled:
            optimizer.step_measured()
        else:
            optimizer.step()
    return tally.peaks


class _Places:
    """Names the phases of a pass, such that the worst moment of each moves with the layers.

    `forward`, with the loss; `last`: the backward pass up to the end of the last layer, `middle`,
    `first`: that of the other layers, `end`: what comes after them.
    """

    def __init__(self, names: Mapping[Tensor, str], tally: Tally) -> None:
        self._tally, self._layers = tally, {p: _layer(name) for p, name in names.items()}
        self._missing = Counter(self._layers.values())
        tally.phase = "forward"

    def ready(self, parameter: Tensor) -> None:
        """The gradient of a parameter is whole."""
        layer = self._layers[parameter]
        self._missing[layer] -= 1
        if layer is not None and self._missing[layer] == 0:
            self._tally.phase = {0: "end", 1: "first"}.get(layer, "middle")


def _layer(name: str) -> int | None:
    """The number of the layer that a parameter is in."""
    found = re.search(r"blocks\.(\d+)\.", name)
    return int(found[1]) if found else None


def _fill(optimizer: Optimizer, tally: Tally) -> None:
    """Let the optimizer make its state, as after a first step."""
    _add_gradients(optimizer)
    optimizer.step()
    optimizer.zero_grad()
    tally.mark(optimizer.state().values(), Kind.OPTIMIZER)


def _add_gradients(optimizer: Optimizer) -> None:
    for parameter in optimizer.names:
        dtype = parameter.grad_dtype or parameter.dtype
        parameter.grad = torch.zeros_like(parameter, dtype=dtype)
