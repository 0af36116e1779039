"""How a run scales: processes, amounts of text, length of the context.

Three tables. `processes`: steps of a transformer in 1 and 2 processes, at shard none and full: time
of a step, tokens a second and the peak of each process. `prepare`: `data prepare` with the
tokenizer of an earlier store, on 1, 4 and 16 times as much text: MB/s and the peak in all.
`context`: a step of the same number of tokens in rows of 256 to 8,192, with and without activation
checkpointing: its time, the peak, and what `foundling plan` said of the tensors. Everything is run
by the command line, in processes of its own, whose resident sizes are read while they run (Linux
only). With a GPU the steps run there, and peaks are still the host's.

    python benchmarks/scale.py [--quick] [--json] [--only processes prepare context]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pretrain import machine

PARTS = ("processes", "prepare", "context")
MODEL = {"rung": "transformer", "dim": 256, "num_layers": 4, "num_heads": 4}
QUICK_MODEL = {"rung": "transformer", "dim": 64, "num_layers": 2, "num_heads": 2}
GIB, MB = 2**30, 10**6
WARM_UP = 2  # steps


def sizes_of(root: int) -> dict[int, int]:
    """The largest resident size so far, in bytes, of a process and all that it started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                after = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents.setdefault(int(after[1]), []).append(int(entry.name))
    found, waiting = {}, [root]
    while waiting:
        process = waiting.pop()
        waiting += parents.get(process, [])
        try:
            status = Path(f"/proc/{process}/status").read_text()
            found[process] = 1024 * int(status.partition("VmHWM:")[2].split()[0])
        except (OSError, IndexError):
            continue
    return found


def run(*arguments: object, environment: dict[str, str]) -> tuple[list[int], dict[str, Any]]:
    """Run `foundling`: the peaks of its processes, largest first, and what its --json says."""
    command = [sys.executable, "-m", "foundling", *map(str, arguments), "--json"]
    peaks: dict[int, int] = {}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        while process.poll() is None:
            for child, size in sizes_of(process.pid).items():
                peaks[child] = max(peaks.get(child, 0), size)
            time.sleep(0.05)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{errors.read()[-3000:]}")
        out.seek(0)
        return sorted(peaks.values(), reverse=True), json.loads(out.read().splitlines()[-1])


class Benchmark:
    """What all three tables share: a folder with text, a store and settings."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        from foundling import hamlet

        self.folder, self.given = folder, given
        threads = str(given.threads)
        self.environment = {**os.environ, "OMP_NUM_THREADS": threads}
        self.environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        self.text = folder / "text.jsonl"
        hamlet.write_corpus(self.text, given.megabytes * MB, seed=1)
        self.store = folder / "store"
        self.say("data", "prepare", self.text, "--out", self.store, "--vocab-size", 2048)
        model = QUICK_MODEL if given.quick else MODEL
        self.config = folder / "run.toml"
        lines = [f"{key} = {json.dumps(value)}" for key, value in model.items()]
        self.config.write_text(
            "[model]\n" + "\n".join(lines) + "\n[guard]\nsnapshot_mb = 0\n"
            "[validation]\nevery = 1000000\nmax_tokens = 10000\nprompts = []\n"
            "[checkpoint]\nevery = 1000000\n[followers]\nreport = false\n"
        )

    def say(self, *arguments: object) -> tuple[list[int], dict[str, Any]]:
        if not self.given.json:
            print("foundling", *arguments, file=sys.stderr)
        return run(*arguments, environment=self.environment)

    def train(
        self, name: str, settings: Sequence[str], processes: int = 1
    ) -> tuple[float, float, list[int]]:
        """Seconds of a step and tokens a second, medians, and the peaks of the processes."""
        out = self.folder / name
        more = [f"--set={setting}" for setting in settings]
        more += [f"--set=training.steps={WARM_UP + self.given.steps}"]
        alone = () if processes == 1 else ("--nproc", processes)
        command = ("pretrain", self.config, "--data", self.store, "--out", out, *more, *alone)
        peaks, _ = self.say(*command)
        records = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        steps = [record for record in records if record["split"] == "train"][WARM_UP:]
        rate = median(record["tokens_per_second"] for record in steps)
        a_step = steps[0]["tokens"] / steps[0]["step"]
        return a_step / rate, rate, peaks[:processes]

    def processes(self) -> list[dict[str, Any]]:
        rows = []
        for count, shard in ((1, "none"), (2, "none"), (2, "full")):
            settings = [f"distributed.shard={shard}", *self.step(256)]
            seconds, rate, peaks = self.train(f"{count}-{shard}", settings, count)
            rows.append({
                "processes": count, "shard": shard, "step_seconds": round(seconds, 3),
                "tokens_per_second": round(rate),
                "peak_gib": [round(peak / GIB, 3) for peak in peaks],
            })  # fmt: skip
        return rows

    def prepare(self) -> list[dict[str, Any]]:
        rows = []
        text = self.text.read_bytes()
        for times in (1, 4, 16):
            source = self.folder / f"text-{times}.jsonl"
            with source.open("wb") as file:
                for number in range(times):  # no two documents are the same: none is dropped
                    file.write(text.replace(b'{"text": "', b'{"text": "%d: ' % number))
            out = self.folder / f"store-{times}"
            tokenizer = ("--tokenizer", self.store / "tokenizer")
            peaks, report = self.say("data", "prepare", source, "--out", out, *tokenizer)
            rows.append({
                "times": times, "megabytes": round(source.stat().st_size / MB, 1),
                "mb_per_second": round(report["megabytes_per_second"], 2),
                "peak_gib": round(sum(peaks) / GIB, 3),
            })  # fmt: skip
            source.unlink()
        return rows

    def context(self) -> list[dict[str, Any]]:
        rows = []
        for context in self.given.contexts:
            for anew in (False, True):
                settings = self.step(context)
                settings.append(f"training.checkpoint_activations={str(anew).lower()}")
                name = f"context-{context}-{anew}"
                seconds, rate, peaks = self.train(name, settings)
                more = [f"--set={setting}" for setting in settings]
                _, plan = self.say("plan", self.config, "--data", self.store, *more)
                ways = plan["layouts"]
                (planned,) = (w for w in ways if w["checkpoint_activations"] == anew)
                rows.append({
                    "context": context, "checkpoint_activations": anew,
                    "step_seconds": round(seconds, 3), "tokens_per_second": round(rate),
                    "peak_gib": round(peaks[0] / GIB, 3),
                    "planned_gib": round(planned["total_bytes"] / GIB, 3),
                })  # fmt: skip
        return rows

    def step(self, context: int) -> list[str]:
        """A step of as many tokens whatever the context."""
        rows = max(1, self.given.tokens // context)
        return [f"context={context}", f"training.batch_size={rows}", "training.precision=fp32"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, within minutes")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=6, help="timed steps")
    parser.add_argument("--tokens", type=int, default=8192, help="of a step")
    parser.add_argument("--threads", type=int, default=1, help="of a process")
    parser.add_argument("--megabytes", type=int, default=8, help="of text, at 1 time")
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192]
    )
    given = parser.parse_args()
    if given.quick:
        given.steps, given.tokens, given.megabytes, given.contexts = 2, 1024, 1, [256, 1024]
    with tempfile.TemporaryDirectory() as name:
        benchmark = Benchmark(Path(name), given)
        found = {part: getattr(benchmark, part)() for part in given.only}
    result: dict[str, Any] = {"name": "scale", "unit": "tokens/s", "peer_name": None}
    if rows := found.get("processes"):
        one, *two = (row["tokens_per_second"] for row in rows)
        result |= {"ours": one, "ratio": {rows[n + 1]["shard"]: round(rate / one, 2)
                                          for n, rate in enumerate(two)}}  # fmt: skip
    print(json.dumps({**result, **found, "work": vars(given), "machine": machine()}))


if __name__ == "__main__":
    main()
