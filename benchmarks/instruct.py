"""What instruction tuning elicits and what it costs, in Hamlet: answers against forgetting.

A base model is pretrained on text of the village; then it is tuned on questions and instructions,
with and without an anchor, and asked what it never saw asked so: questions in held-out phrasings,
questions about facts that only the text told, and about facts that merely follow. There is no peer
to compare with: no other trainer has the anchor. What DIR holds already is not done again.

    python benchmarks/instruct.py [--quick] [--json] --out DIR
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

BASE: dict[str, Any] = {
    "seed": 7,
    "context": 128,
    "model": {"rung": "transformer", "dim": 192, "num_layers": 4, "num_heads": 6},
    "training": {"steps": 2000, "batch_size": 32, "compile": True},
    "optimizer": {"learning_rate": 4e-3, "muon_learning_rate": 1e-2},
    "validation": {"every": 250, "max_tokens": 40_000, "prompts": []},
    "checkpoint": {"every": 250},
}
TUNING: dict[str, Any] = {
    "seed": 7,
    "training": {"batch_size": 32, "epochs": 4},
    "optimizer": {"kind": "muon", "learning_rate": 1e-3, "muon_learning_rate": 2e-3},
    "data": {"on_long": "drop", "validation_fraction": 0.02},
    "validation": {"every": 100, "patience": 0},
    "forgetting": {"max_tokens": 40_000},
    "checkpoint": {"every": 1000, "keep_last": 1},
}
ANCHORS: dict[str, dict[str, float]] = {
    "lambda 0": {"strength": 0},
    "lambda 0.1 and text": {"strength": 0.1, "text_rows": 16},
    "lambda 0.02 and text": {"strength": 0.02, "text_rows": 16},
}


def base(out: Path, steps: int, num_bytes: int) -> Path:
    """The pretrained model's run."""
    from foundling import hamlet
    from foundling.data.prepare import prepare
    from foundling.runs.run import is_run
    from foundling.stages.pretrain import PretrainConfig, pretrain

    run = out / "base"
    if not (out / "store").exists():
        hamlet.write_corpus(out / "corpus.jsonl", num_bytes, seed=7)
        prepare([out / "corpus.jsonl"], out / "store", vocab_size=1024, validation_fraction=0.01)
    values = {**BASE, "data": str((out / "store").resolve())}
    values["training"] = {**BASE["training"], "steps": steps}
    pretrain(PretrainConfig.parse(values), run, resume=is_run(run))
    return run


def tuned(parent: Path, out: Path, anchor: dict[str, float], rows: int) -> Path:
    """The run of one anchor."""
    from foundling import hamlet
    from foundling.runs.run import is_run
    from foundling.stages.sft import SftConfig, sft

    file = out.parent / f"instructions-{rows}.jsonl"
    if not file.exists():
        hamlet.write_instructions(file, rows, seed=1)
    data = {**TUNING["data"], "files": [str(file.resolve())]}
    values = {**TUNING, "parent": str(parent.resolve()), "data": data, "anchor": anchor}
    sft(SftConfig.parse(values), out, resume=is_run(out))
    return out


def examined(run: Path, limit: int | None) -> dict[str, tuple[int, int]]:
    """Exact answers and questions of each held-out set."""
    from foundling import hamlet
    from foundling.generation.conversation import answer
    from foundling.generation.engine import Engine
    from foundling.generation.sampling import Sampling
    from foundling.runs.run import load_model
    from foundling.text.chat import Message

    engine = Engine(*load_model(run))
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for row in hamlet.held_out_questions(limit=limit):
        messages = [Message("user", row["question"])]
        pieces = answer(engine, messages, max_tokens=24, sampling=Sampling(temperature=0))
        asked[row["set"]] += 1
        right[row["set"]] += hamlet.exact_match("".join(pieces), row["accepted"])
    return {name: (right[name], asked[name]) for name in asked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of instructions")
    parser.add_argument("--limit", type=int, help="questions of each held-out set")
    arguments = parser.parse_args()
    steps, num_bytes = BASE["training"]["steps"], 20_000_000
    if arguments.quick:
        steps, num_bytes, arguments.rows, arguments.limit = 20, 300_000, 200, 20
    arguments.out.mkdir(parents=True, exist_ok=True)
    parent = base(arguments.out, steps, num_bytes)
    rows = []
    for name, anchor in ANCHORS.items():
        folder = arguments.out / f"{name.replace(' ', '-')}-{arguments.rows}"
        run = tuned(parent, folder, anchor, arguments.rows)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        validations = [record for record in records if record["split"] == "validation"]
        first, best = validations[0], min(validations, key=lambda record: record["loss_nats"])
        rows.append(
            {
                "anchor": name,
                "answer_loss_nats": best["loss_nats"],
                "kl_nats": best["kl_nats"],
                "pretraining_nats_before": first["pretraining_loss_nats"],
                "pretraining_nats_after": best["pretraining_loss_nats"],
                "exact": examined(run, arguments.limit),
            }
        )
        if not arguments.json:
            print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps({"name": "instruct", "peer_name": None, "rows": rows}))


if __name__ == "__main__":
    main()
