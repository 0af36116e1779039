"""What the guard costs: the same runs with it and without it, in turn, in one process.

The time from one step to the next is taken at the loop's seam, for each step the median over the
rounds; the sums over all steps are compared, so that looks at the canary and states kept in memory
count as often as they come. CPU time is compared beside wall time, for other work on the machine
disturbs it less.

    python benchmarks/guard.py [--quick] [--json] [--rounds N]
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from pretrain import machine

SETTINGS: dict[str, dict[str, Any]] = {
    "small": {
        "context": 128,
        "model": {"rung": "transformer", "dim": 128, "num_layers": 4, "num_heads": 4},
        "training": {"steps": 201, "batch_size": 16},
    },
    "nanogpt, batch 8": {
        "context": 256,
        "model": {"rung": "transformer", "dim": 384, "num_layers": 6, "num_heads": 6},
        "training": {"steps": 51, "batch_size": 8},
    },
}


class Clock:
    """Takes the time whenever a step begins."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, site: str, step: int, samples: Sequence[int], value: Any) -> Any:
        if site == "state":
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())
        return value

    def steps(self) -> dict[str, list[float]]:
        times = {"wall": self.wall, "cpu": self.cpu}
        return {
            name: [after - before for before, after in pairwise(values)]
            for name, values in times.items()
        }


def run(settings: dict[str, Any], store: Path, out: Path, guarded: bool) -> dict[str, list[float]]:
    from foundling.stage import PretrainConfig, pretrain

    never = settings["training"]["steps"]
    values = settings | {
        "data": str(store),
        "training": settings["training"] | {"threads": 1, "precision": "fp32"},
        "guard": {"enabled": guarded},
        "validation": {"every": never, "prompts": [], "max_tokens": 2000},
        "checkpoint": {"every": never},
    }
    clock = Clock()
    with contextlib.redirect_stderr(io.StringIO()):
        pretrain(PretrainConfig.parse(values), out, seam=clock)
    return clock.steps()


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
    from foundling.data.hamlet import write_corpus
    from foundling.data.prepare import prepare

    result: dict[str, Any] = {"name": "guard", "unit": "share of a step", "overhead": {}}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_corpus(place / "text.jsonl", 2_000_000, seed=1)
        prepare([place / "text.jsonl"], place / "data", vocab_size=1024)
        for name in names:
            found: dict[str, dict[bool, list[list[float]]]] = {
                kind: {True: [], False: []} for kind in ("wall", "cpu")
            }
            for number in range(rounds):
                for guarded in (False, True):
                    out = place / f"{name}-{number}-{guarded}"
                    for kind, times in run(SETTINGS[name], place / "data", out, guarded).items():
                        found[kind][guarded].append(times)
            result["overhead"][name] = {
                "wall": round(overhead(found["wall"]), 4),
                "cpu": round(overhead(found["cpu"]), 4),
                "step_seconds": round(median(map(median, found["wall"][False])), 4),
            }
            if not arguments.json:
                print(f"{name}: {result['overhead'][name]}", file=sys.stderr, flush=True)
    print(json.dumps(result | {"machine": machine()}))


if __name__ == "__main__":
    main()
