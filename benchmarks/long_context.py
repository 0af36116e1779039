"""A model of novels continued from 256 to 8,192 tokens, and what it has of the longer context.

A small transformer with rotary positions learns novels in rows of 256 tokens, then of 8,192:
once with YaRN, once with another base. Measured on whole held-out novels, before and after: loss
by position, a number hidden in the text, a passage repeated (the probe long_context of `foundling
evaluate`). "Before" is the same weights, with positions as they were and with YaRN untrained;
and in windows of 256 tokens, than which a longer context has to be better.

    python benchmarks/long_context.py --data-root DIR --out DIR [--steps N] [--long-steps N]
    python benchmarks/long_context.py --memory

--data-root holds novels/ and novels_heldout/. What --out holds is not done again; a run that was
interrupted is resumed. --memory measures instead the peak memory and the seconds of one step by the
length of its row. --quick does either within a minute.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pretrain import machine

SHORT, LONG = 256, 8192
MODEL = {"rung": "transformer", "dim": 192, "num_layers": 4, "num_heads": 4, "tied": True}
YARN = {"type": "yarn", "factor": float(LONG // SHORT), "original_context": SHORT}
BASE = 500_000.0
"""As of Llama 3; Xiong et al. 2023, Effective Long-Context Scaling, section 3 (adjusted base)."""
CHANGES: dict[str, dict[str, Any]] = {
    "yarn": {"rope_scaling": YARN},
    "base": {"rope_theta": BASE},
}
NAMES = {
    "windows": "before, 256 seen",
    "before": "before, 8k seen",
    "before_yarn": "YaRN, untrained",
    "after_yarn": "YaRN",
    "after_base": f"base {BASE:,.0f}",
}


def common(threads: int) -> dict[str, Any]:
    return {
        "training": {"threads": threads},
        "validation": {"prompts": [], "max_tokens": 2**15},
    }


def train_base(store: Path, out: Path, steps: int, threads: int) -> None:
    shared = common(threads)
    train(
        {
            "context": SHORT,
            "data": str(store),
            "model": MODEL,
            "training": {**shared["training"], "steps": steps, "batch_size": 16},
            "optimizer": {"learning_rate": 3e-3, "muon_learning_rate": 5e-3},
            "schedule": {"decay_share": 0.5},
            "validation": {**shared["validation"], "every": max(1, steps // 4)},
            "checkpoint": {"every": max(1, steps // 8)},
        },
        out,
    )


def continue_run(parent: Path, store: Path, kind: str, out: Path, steps: int, threads: int) -> None:
    """One row of the long context a step, at a third of the rates."""
    shared = common(threads)
    train(
        {
            "seed": 2,
            "parent": str(parent),
            "context": LONG,
            "data": str(store),
            "model": CHANGES[kind],
            "training": {**shared["training"], "steps": steps, "batch_size": 1},
            "optimizer": {"learning_rate": 1e-3, "muon_learning_rate": 1.5e-3},
            "schedule": {"warmup_steps": 4, "decay_share": 0.7},
            "validation": {**shared["validation"], "every": steps, "batch_size": 1},
            "checkpoint": {"every": max(1, steps // 8)},
        },
        out,
    )  # fmt: skip


def train(values: dict[str, Any], out: Path) -> None:
    """Do the run, or what is left of it."""
    from foundling.runs.run import Run
    from foundling.stages.pretrain import PretrainConfig, pretrain

    resume = (out / "config.toml").exists()
    done = Run.open(out).records()["validation"][-1]["step"] if resume else 0
    if done < values["training"]["steps"]:
        if resume:
            values = {**values, "parent": None}
        pretrain(PretrainConfig.parse(values), out, resume=resume)


def untrained(run: Path, change: Mapping[str, Any], folder: Path) -> Path:
    """The model of a run with other positions, and nothing learned of them."""
    from foundling import models
    from foundling.runs.model_folder import save_model
    from foundling.runs.run import load_model

    if not folder.exists():
        model, tokenizer = load_model(run)
        save_model(models.with_settings(model, context=LONG, **change), tokenizer, folder, {})
    return folder


def proof(arguments: argparse.Namespace) -> dict[str, Any]:
    from foundling import evaluate
    from foundling.data.prepare import prepare

    data, out = Path(arguments.data_root), arguments.out
    store, base = out / "store", out / "base"
    out.mkdir(parents=True, exist_ok=True)
    if not store.exists():
        prepare([data / "novels"], store, vocab_size=8192, validation=[data / "novels_heldout"])
    train_base(store, base, arguments.steps, arguments.threads)
    if arguments.until == "base":
        return {"trained": "base"}
    for kind in CHANGES:
        run = out / f"after_{kind}"
        continue_run(base, store, kind, run, arguments.long_steps, arguments.threads)
        if arguments.until == kind:
            return {"trained": kind}
    models = {
        "before": untrained(base, {}, out / "before"),
        "before_yarn": untrained(base, CHANGES["yarn"], out / "before_yarn"),
        "after_yarn": out / "after_yarn",
        "after_base": out / "after_base",
    }
    found = evaluate(
        *map(str, models.values()),
        out=out / "evaluation",
        probes=["long_context"],
        device="cpu",
        precision=arguments.precision,
        long_context={
            "texts": [str(data / "novels_heldout")],
            "lengths": list(arguments.lengths),
            "items": arguments.items,
            "pieces": arguments.pieces,
            "depths": arguments.depths,
        },
    ).results
    result = summary(found, {str(folder): name for name, folder in models.items()})
    result["models"]["windows"] = {"loss_by_position": in_windows(base, data, arguments)}
    draw(result, out / "long_context")
    return result


def in_windows(run: Path, data: Path, arguments: argparse.Namespace) -> dict[float, float]:
    """The loss of the same pieces, read in windows of the short context that overlap by half."""
    from foundling.evaluation.model_scorer import load_scorer
    from foundling.evaluation.probes import Setting
    from foundling.evaluation.probes.long_context.probe import by_position, pieces_of

    scorer = load_scorer(str(run), device="cpu", precision=arguments.precision)
    bits = [
        np.array(scorer.read(piece).nats[: LONG - 1]) / np.log(2)
        for file in sorted((data / "novels_heldout").glob("*.txt"))
        for piece in Setting().limited(
            list(pieces_of(scorer, file.read_text("utf-8"), LONG)), file.stem, arguments.pieces
        )
    ]
    return {at: float(means.mean()) for at, means in by_position(np.array(bits))}


def summary(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The loss by position over all novels, and what was found again, model by model."""
    (probe,) = found["probes"]
    result: dict[str, Any] = {"name": "long_context", "unit": "bits per token", "models": {}}
    for subject, name in names.items():
        curves = [c for c in probe["curves"] if c["subject"] == subject]
        rows = {
            figure: {c["name"]: {p["x"]: p["y"] for p in c["points"]}
                     for c in curves if c["figure"] == figure}
            for figure in dict.fromkeys(c["figure"] for c in curves)
        }  # fmt: skip
        by_text = rows.pop("Loss by position", {})
        positions = sorted({x for points in by_text.values() for x in points})
        rows["loss_by_position"] = {
            x: float(np.mean([points[x] for points in by_text.values()])) for x in positions
        }
        result["models"][name] = rows
    return result


def draw(result: Mapping[str, Any], stem: Path) -> None:
    """The loss by position at the left, what is found again at the right."""
    from foundling.reports import style

    figure, axes = style.new_figure(
        "Novels: from 256 to 8,192 tokens", "position in the text", "bits per token", right=0.72
    )
    colours = dict(
        zip(NAMES, (style.GREY, style.PURPLE, style.SKY, style.BLUE, style.VERMILLION), strict=True)
    )
    curves = {n: rows["loss_by_position"] for n, rows in result["models"].items()}
    style.log_x(axes, 4, LONG)
    shown = {n: [(float(x), y) for x, y in of.items() if float(x) >= 4] for n, of in curves.items()}
    for name, points in shown.items():
        dashes = style.DOTTED if name == "windows" else "solid"
        axes.plot(
            *zip(*points, strict=True), color=colours[name], linestyle=dashes, marker="o",
            markersize=4,
        )  # fmt: skip
    axes.axvline(SHORT, color=style.MUTED, linestyle=style.DOTTED, linewidth=1)
    ends = [(NAMES[n], points[-1][1], colours[n]) for n, points in shown.items()]
    style.end_labels(axes, ends)
    style.save(figure, stem)


STEP = """
import json, sys, time, torch
from foundling import models
from foundling.models.batch import TokenBatch
from foundling.objectives import Pretrain
from foundling.training.activations import checkpoint_activations
time_, documents, window, recomputes = map(int, sys.argv[1:])
torch.manual_seed(0)
model = models.build({"rung": "transformer", "dim": 192, "num_layers": 4, "num_heads": 4,
    "window": window or None, "full_layers": [3] if window else []}, vocab_size=8192, context=time_)
if recomputes:
    checkpoint_activations(model)
tokens = torch.randint(8192, (1, time_))
places, each = torch.arange(time_)[None], -(-time_ // documents)
batch = TokenBatch(tokens, tokens, places % each, places // each if documents > 1 else None)
step = lambda: Pretrain(0.0)(model, batch).total.backward()
# Not getrusage's: that of a child begins with the most that its parent held.
most = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = most()
step()
start = time.perf_counter()
step()
print(json.dumps({"mib": (most() - before) / 1024, "seconds": time.perf_counter() - start}))
"""


def memory(quick: bool) -> dict[str, Any]:
    """Peak memory beyond the weights, and seconds, of a forward and backward pass of one row."""
    kinds = {
        "one document": (1, 0, 0),
        "16 documents": (16, 0, 0),
        "16 documents, checkpoint_activations": (16, 0, 1),
        "window 512, one full layer": (1, 512, 0),
        "window 512, one full layer, 16 documents": (16, 512, 0),
    }
    lengths = (1024, 2048) if quick else (1024, 2048, 4096, 8192, 16384)
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        for length in lengths:
            command = [sys.executable, "-c", STEP, *map(str, (length, *kind))]
            said = subprocess.check_output(command, text=True)
            found.setdefault(name, {})[length] = json.loads(said)
            print(f"{name}, {length:,}: {said.strip()}", file=sys.stderr)
    return {"name": "long_context memory", "unit": "MiB", "rows": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default=os.environ.get("FOUNDLING_DATA_ROOT"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=1200, help="of the base, 4,096 tokens each")
    parser.add_argument("--long-steps", type=int, default=128, help="8,192 tokens each")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096, LONG])
    parser.add_argument("--pieces", type=int, default=100, help="of each novel, at most")
    parser.add_argument("--items", type=int, default=4, help="needles and copies at each place")
    parser.add_argument("--depths", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--precision", default="fp32", help="of the evaluation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--until", choices=("base", *CHANGES), help="train to there alone")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    arguments = parser.parse_args()
    started = time.perf_counter()
    if arguments.memory:
        result = memory(arguments.quick)
    else:
        if arguments.data_root is None or arguments.out is None:
            parser.error("give --data-root (or FOUNDLING_DATA_ROOT) and --out")
        if arguments.quick:
            arguments.steps, arguments.long_steps, arguments.items = 2, 1, 1
            arguments.pieces, arguments.lengths = 1, [256]
        result = proof(arguments)
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps({**result, "machine": machine()}))


if __name__ == "__main__":
    main()
