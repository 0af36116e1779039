"""What the guard costs, measured in two ways.

Side by side: the same runs with it and without it, in turn, first the one and then the other. The
time from one step to the next is taken at the loop's seam, for each step the median over the
rounds; the sums over all steps are compared. A noisy machine shows through, so the guard's own work
is timed too: all that is done in the guarded runs and not in the others, looks at the canary and
states kept in memory included, as a share of their time.

    python benchmarks/guard.py [--quick] [--json] [--rounds N]
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from pretrain import machine

SETTINGS: dict[str, dict[str, Any]] = {
    "small": {
        "context": 128,
        "model": {"rung": "transformer", "dim": 128, "num_layers": 4, "num_heads": 4},
        "training": {"steps": 101, "batch_size": 16},
    },
    "nanogpt, batch 8": {
        "context": 256,
        "model": {"rung": "transformer", "dim": 384, "num_layers": 6, "num_heads": 6},
        "training": {"steps": 51, "batch_size": 8},
    },
}


class Meter:
    """Adds up the time spent in methods that it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def around(self, owner: type, name: str, sign: int = 1) -> Iterator[None]:
        original = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                self.seconds += sign * (time.perf_counter() - started)

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, original)


class Clock:
    """Takes the time, and the meter's reading, whenever a step begins."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.own = meter, 0.0
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, site: str, step: int, samples: Sequence[int], value: Any) -> Any:
        if site == "state":
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())
            self.own = self.meter.seconds
        return value

    @property
    def share(self) -> float:
        """The meter's, of the time from the first step to the last."""
        return self.own / (self.wall[-1] - self.wall[0])

    def steps(self) -> dict[str, list[float]]:
        times = {"wall": self.wall, "cpu": self.cpu}
        return {
            name: [after - before for before, after in pairwise(values)]
            for name, values in times.items()
        }


def run(
    settings: dict[str, Any], store: Path, out: Path, guarded: bool
) -> tuple[dict[str, list[float]], float]:
    """The times of the steps, and the share of them that is the guard's own."""
    from foundling.stages.pretrain import PretrainConfig, pretrain
    from foundling.training.optimizers import Optimizer
    from foundling.training.rewind import Healer

    never = settings["training"]["steps"]
    values = settings | {
        "data": str(store),
        "training": settings["training"] | {"threads": 1, "precision": "fp32"},
        "guard": {"enabled": guarded},
        "validation": {"every": never, "prompts": [], "max_tokens": 2000},
        "checkpoint": {"every": never},
    }
    meter = Meter()
    clock = Clock(meter)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        if guarded:
            for method in ("begin", "judge", "accept"):
                stack.enter_context(meter.around(Healer, method))
            stack.enter_context(meter.around(Optimizer, "step_measured"))
            stack.enter_context(meter.around(Optimizer, "step", -1))  # which it contains
        pretrain(PretrainConfig.parse(values), out, seam=clock)
    return clock.steps(), clock.share


def overhead(rounds: dict[bool, list[list[float]]]) -> float:
    totals = {
        guarded: sum(median(times) for times in zip(*found, strict=True))
        for guarded, found in rounds.items()
    }
    return totals[True] / totals[False] - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small model alone, two rounds")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    names = list(SETTINGS)[:1] if arguments.quick else list(SETTINGS)
    rounds = 2 if arguments.quick else arguments.rounds
    from foundling.data.prepare import prepare
    from foundling.hamlet import write_corpus

    result: dict[str, Any] = {"name": "guard", "unit": "share of a step", "overhead": {}}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_corpus(place / "text.jsonl", 2_000_000, seed=1)
        prepare([place / "text.jsonl"], place / "data", vocab_size=1024)
        for name in names:
            found: dict[str, dict[bool, list[list[float]]]] = {
                kind: {True: [], False: []} for kind in ("wall", "cpu")
            }
            shares = []
            for number in range(rounds):
                for guarded in (False, True) if number % 2 else (True, False):
                    out = place / f"{name}-{number}-{guarded}"
                    steps, share = run(SETTINGS[name], place / "data", out, guarded)
                    shares += [share] * guarded
                    for kind, times in steps.items():
                        found[kind][guarded].append(times)
            result["overhead"][name] = {
                "own work": round(median(shares), 5),
                "wall": round(overhead(found["wall"]), 4),
                "cpu": round(overhead(found["cpu"]), 4),
                "step_seconds": round(median(map(median, found["wall"][False])), 4),
            }
            if not arguments.json:
                print(f"{name}: {result['overhead'][name]}", file=sys.stderr, flush=True)
    print(json.dumps(result | {"machine": machine()}))


if __name__ == "__main__":
    main()
