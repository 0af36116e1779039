"""The precision of matrix products: `auto` is what this machine multiplies faster."""

import json
import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from foundling.base import durable
from foundling.base.config import ConfigError, suggest

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
GAIN = 1.1
"""bf16 must be faster by this factor: it rounds more, and one measurement differs from another."""
LARGEST = 3  # shapes measured: those that most of the work goes to
ROWS = {"cpu": 1024, "cuda": 8192}
FEWEST_ROWS = 64
WORK = {"cpu": 4e9, "cuda": 4e12}  # FLOP of one pass
PASSES, SECONDS = 3, 0.2  # for each precision, at the least and about, after one to warm up

Shapes = Mapping[tuple[int, int], int]
"""How often a model multiplies by a matrix of (in, out) features."""
Rates = Mapping[str, float]
"""FLOP/s by precision."""


def pick_precision(
    name: str, device: torch.device, model: nn.Module, num_tokens: int
) -> torch.dtype:
    """`auto` is what a short measurement finds faster on the shapes of `model`.

    Measured once for a machine, a version of torch and the shapes; what was
    found is kept in the user's cache folder, and said in the log.

    Args:
        num_tokens: how many tokens are multiplied at a time.

    Raises:
        ConfigError: there is no such precision.
    """
    if name == "auto":
        name = _measured(device, shapes_of(model), num_tokens)
    if name not in PRECISIONS:
        raise ConfigError(
            f'precision = "{name}": no such precision {suggest(name, ["auto", *PRECISIONS])}'
        )
    return PRECISIONS[name]


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Matrix products in `precision`; fp32 leaves everything as it is."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)


def hold(model: nn.Module, dtype: torch.dtype, *, frozen_only: bool = False) -> None:
    """Keep the embeddings and matrices of `model`, with their biases, in `dtype`.

    Norms stay as they are: they are small, and worked in fp32. In bf16 under bf16 products nothing
    changes but the embedding's rounding, and not even that where the weights came in bf16.
    """
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if "weight" not in own or own["weight"].ndim != 2:
            continue
        for name in ("weight", "bias"):
            if name in own and not (frozen_only and own[name].requires_grad):
                own[name].data = own[name].data.to(dtype)


def faster(rates: Rates) -> str:
    """The precision to take."""
    return "bf16" if rates["bf16"] > GAIN * rates["fp32"] else "fp32"


def shapes_of(model: nn.Module) -> Shapes:
    """The matrices of `model` that take most of the work."""
    linears = (module for module in model.modules() if isinstance(module, nn.Linear))
    counts = Counter((linear.in_features, linear.out_features) for linear in linears)
    heaviest = sorted(counts, key=lambda shape: -counts[shape] * shape[0] * shape[1])
    return {shape: counts[shape] for shape in heaviest[:LARGEST]}


def bounded(shapes: Shapes, num_tokens: int, most: int, work: float) -> tuple[Shapes, int]:
    """What of `shapes` is measured, on how many rows, so that a pass takes about `work` FLOP.

    Args:
        most: the most rows.
    """
    kept: dict[tuple[int, int], int] = {}
    left = work / (6 * FEWEST_ROWS)
    for (a, b), count in shapes.items():
        columns = min(b, int(left / a))  # a part of a large matrix is like the whole
        if columns < b and kept:
            break
        kept[a, columns] = count
        left -= a * columns
    rows = work / (6 * sum(a * b for a, b in kept))
    return kept, int(min(num_tokens, most, max(rows, 1)))


def _measured(device: torch.device, shapes: Shapes, num_tokens: int) -> str:
    shapes, rows = bounded(shapes, num_tokens, ROWS[device.type], WORK[device.type])
    rates = remembered(_key(device, shapes, rows), lambda: measure_rates(device, shapes, rows))
    name = faster(rates)
    figures = ", ".join(f"{other} {rate / 1e12:.3g}" for other, rate in rates.items())
    where = "of one core " if device.type == "cpu" else ""
    logger.info(f"precision: {name} (auto; TFLOP/s {where}on the model's shapes: {figures})")
    return name


def measure_rates(device: torch.device, shapes: Shapes, rows: int) -> Rates:
    """The rate of forward and backward through matrices of `shapes`, each the best of several.

    On a CPU it is that of one core, by the time that the core spent on it: other programs, and
    threads that wait for each other, would change the figures a hundredfold.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        return _measure(device, shapes, rows)
    finally:
        torch.set_num_threads(threads)


def _measure(device: torch.device, shapes: Shapes, rows: int) -> Rates:
    draw = torch.Generator().manual_seed(0)  # what is trained draws from torch's own

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw).to(device).requires_grad_()

    products = [(count, drawn(rows, a), drawn(b, a)) for (a, b), count in shapes.items()]

    def seconds(precision: torch.dtype) -> float:
        total = 0.0
        for count, given, weight in products:
            start = _now(device)
            with autocast(device, precision):
                out = functional.linear(given, weight)
            # In this thread: on CPUs autograd works in the thread that calls it.
            torch.autograd.backward(out, out.detach())
            total += count * (_now(device) - start)
        return total

    for precision in PRECISIONS.values():
        seconds(precision)
    best = dict.fromkeys(PRECISIONS, float("inf"))
    passes, until = 0, time.perf_counter() + SECONDS * len(PRECISIONS)
    while passes < PASSES or time.perf_counter() < until:
        for name, precision in PRECISIONS.items():
            best[name] = min(best[name], seconds(precision))
        passes += 1
    work = sum(6 * rows * count * shape[0] * shape[1] for shape, count in shapes.items())
    return {name: work / max(took, 1e-9) for name, took in best.items()}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.thread_time()


def remembered(key: str, measure: Callable[[], Rates]) -> Rates:
    """What was measured under `key`, or what `measure` finds now.

    The cache is a convenience: one that cannot be read or written is no error.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "foundling")
    kept: dict[str, Rates] = {}
    with suppress(OSError, ValueError):
        found = json.loads((folder / "rates.json").read_bytes())
        kept = found if isinstance(found, dict) else {}
    with suppress(KeyError, TypeError, ValueError):
        return {name: float(kept[key][name]) for name in PRECISIONS}
    kept[key] = measure()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(folder / "rates.json", json.dumps(kept, indent=1).encode())
    return kept[key]


def _key(device: torch.device, shapes: Shapes, rows: int) -> str:
    """All that the rates depend on."""
    if device.type == "cuda":
        unit = torch.cuda.get_device_name(device)
    else:
        unit = f"{platform.machine()} core"
    products = " ".join(f"{count}x{a}x{b}" for (a, b), count in shapes.items())
    return f"{platform.node()}, {unit}, torch {torch.__version__}, {rows} rows of {products}"
