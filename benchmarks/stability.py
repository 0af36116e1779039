"""What becomes of runs that are made unstable on purpose, under four ways of watching them.

A small transformer learns real text by characters with 30 times the learning rate, no QK-norm and
no warm-up, from many seeds: unwatched; by OLMo-core's rule, which skips a step whose loss or
gradient norm is over the mean + 6 sigma of the last 128; by ZClip's rule; with Foundling's guard.
The stable run, with the default rate, QK-norm and warm-up, is what they are measured against.

The two rules are implemented here from their descriptions, in a plain loop over the same model,
optimizer, schedule and data, which unwatched gives the same losses as Foundling's loop.

    python benchmarks/stability.py --text tinyshakespeare.txt --out DIR [--seeds N] [--steps N]

Results are kept in DIR/results.jsonl; runs that are there are not done again.
"""

import argparse
import contextlib
import io
import json
import math
import shutil
import sys
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, pstdev, stdev
from typing import Any, Protocol

SURVIVES = 1.1
"""A run survives if it ends with a validation loss up to this many times the stable run's."""
CONTEXT, BATCH = 64, 16
MODEL = {"rung": "transformer", "dim": 64, "num_layers": 2, "num_heads": 4}


def config(variant: str, seed: int, steps: int, scale: float) -> dict[str, Any]:
    stable = variant == "stable"
    factor = 1.0 if stable else scale
    return {
        "seed": seed,
        "context": CONTEXT,
        "model": MODEL | {"qk_norm": stable},
        "training": {"steps": steps, "batch_size": BATCH, "threads": 1, "precision": "fp32"},
        "optimizer": {"learning_rate": 3e-3 * factor, "muon_learning_rate": 5e-3 * factor},
        "schedule": {"warmup_steps": 20 if stable else 0},
        "guard": {"enabled": variant == "foundling"},
        "validation": {"every": steps, "prompts": []},
        "checkpoint": {"every": steps},
    }


class Rule(Protocol):
    """Decides about a step by its loss and its gradient's norm."""

    def factor(self, loss: float, norm: float) -> float:
        """What the gradient is multiplied by; 0: the step is skipped."""


@dataclass
class SixSigma:
    """OLMo-core's SkipStepOptimizer: the values that were skipped enter its history too."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=128))
    norms: deque[float] = field(default_factory=lambda: deque(maxlen=128))

    def factor(self, loss: float, norm: float) -> float:
        fits = True
        for history, value in ((self.losses, loss), (self.norms, norm)):
            if len(history) >= 64:
                fits = fits and value <= fmean(history) + 6 * stdev(history)
            history.append(value)
        return float(fits)


@dataclass
class ZClip:
    """Kumar et al. 2025: a norm that scores over z is clipped to mean + z² sigma / score."""

    alpha: float = 0.97
    threshold: float = 2.5
    warmup: int = 25
    norms: list[float] = field(default_factory=list)
    mean: float = 0.0
    variance: float = 0.0

    def factor(self, loss: float, norm: float) -> float:
        if len(self.norms) < self.warmup:
            self.norms.append(norm)
            if len(self.norms) == self.warmup:
                self.mean, self.variance = fmean(self.norms), pstdev(self.norms) ** 2
            return 1.0
        sigma = math.sqrt(self.variance)
        score = (norm - self.mean) / (sigma + 1e-6)
        kept = norm
        if score > self.threshold:
            kept = self.mean + self.threshold**2 / score * sigma
        self.mean = self.alpha * self.mean + (1 - self.alpha) * kept
        self.variance = self.alpha * self.variance + (1 - self.alpha) * (kept - self.mean) ** 2
        return min(kept, 1.0) / min(norm, 1.0) if norm else 1.0  # of what is clipped to 1 already


RULES: Mapping[str, Callable[[], Rule] | None] = {
    "no guard": None,
    "mean + 6 sigma": SixSigma,
    "zclip": ZClip,
}
VARIANTS = ("stable", *RULES, "foundling")


def plain(store: Path, values: Mapping[str, Any], rule: Rule | None) -> float:
    """The final validation loss of a loop as most people write it; infinite: it was not finite."""
    import torch

    from foundling import models
    from foundling.base import runtime
    from foundling.data.store import TokenStore
    from foundling.data.text import TextData, validation_batches
    from foundling.metrics.perplexity import measure
    from foundling.objectives import Pretrain
    from foundling.stages.pretrain import PretrainConfig
    from foundling.training.optimizers import Optimizer
    from foundling.training.schedules import rate_share

    settings, device = PretrainConfig.parse(values), torch.device("cpu")
    opened = TokenStore.open(store)
    data = TextData(opened.split("train"), context=CONTEXT, batch_size=BATCH, seed=settings.seed)
    runtime.seed_everything(settings.seed, "weights")
    vocab_size = opened.tokenizer().vocab_size
    model = models.build(settings.model, vocab_size=vocab_size, context=CONTEXT)
    optimizer, objective = Optimizer(model, settings.optimizer), Pretrain()
    for step in range(settings.training.steps):
        optimizer.zero_grad()
        optimizer.set_rate_share(rate_share(settings.schedule, step, settings.training.steps))
        model.train()
        loss = objective(model, data.batch(step))
        loss.total.backward()
        norm = optimizer.finish_gradients(loss.count.item())
        factor = rule.factor(loss.total.item() / loss.count.item(), norm) if rule else 1.0
        if factor:
            for parameter in model.parameters():
                if parameter.grad is not None and factor != 1.0:
                    parameter.grad *= factor
            optimizer.step()
    batches = validation_batches(
        opened.split("validation"), context=CONTEXT, batch_size=32, max_tokens=None
    )
    found = measure(model, batches, token_bytes=None, device=device).loss_nats
    return found if math.isfinite(found) else math.inf


def train(task: tuple[str, int, int, float, str, str]) -> dict[str, Any]:
    """One run: its variant, its seed, its final validation loss, and what the guard did."""
    variant, seed, steps, scale, store, out = task
    import torch

    torch.set_num_threads(1)
    values = config(variant, seed, steps, scale) | {"data": store}
    result: dict[str, Any] = {"variant": variant, "seed": seed, "acts": {}}
    if variant in RULES:
        make = RULES[variant]
        return result | {"loss_nats": plain(Path(store), values, make() if make else None)}
    from foundling.stages.pretrain import PretrainConfig, pretrain
    from foundling.training.rewind import TrainingStopped

    folder = Path(out) / f"{variant}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            summary = pretrain(PretrainConfig.parse(values), folder).summary()
    except TrainingStopped:
        return result | {"loss_nats": math.inf}
    return result | {"loss_nats": summary["best_loss_nats"], "acts": summary["guard"]}


def table(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stable = {r["seed"]: r["loss_nats"] for r in results if r["variant"] == "stable"}
    rows = []
    for variant in VARIANTS:
        found = {r["seed"]: r["loss_nats"] for r in results if r["variant"] == variant}
        excess = [loss / stable[seed] - 1 for seed, loss in found.items()]
        rows.append(
            {
                "variant": variant,
                "runs": len(found),
                "survive": sum(1 + e <= SURVIVES for e in excess),
                "median_loss_nats": round(median(found.values()), 4),
                "median_excess": round(median(excess), 4),
                "worst_excess": round(max(excess), 4),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="a text file of a megabyte or so")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the data and runs")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--scale", type=float, default=30.0, help="times the learning rate")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    arguments = parser.parse_args()
    store = arguments.out / "data"
    if not store.exists():
        from foundling.data.prepare import prepare

        prepare([arguments.text], store, tokenizer="characters", validation_tail=0.1)
    record = arguments.out / "results.jsonl"
    results = [json.loads(line) for line in record.open()] if record.exists() else []
    done = {(result["variant"], result["seed"]) for result in results}
    tasks = [
        (variant, seed, arguments.steps, arguments.scale, str(store), str(arguments.out))
        for seed in range(1, arguments.seeds + 1)
        for variant in VARIANTS
        if (variant, seed) not in done
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for result in pool.map(train, tasks):
            results.append(result)
            with record.open("a") as file:
                file.write(json.dumps(result) + "\n")
            if not arguments.json:
                print(json.dumps(result), file=sys.stderr, flush=True)
    print(json.dumps({"rows": table(results), "results": results}))


if __name__ == "__main__":
    main()
