"""An act of the demonstration: a model learns to answer, anchored to what it was and not."""

import logging
from pathlib import Path
from typing import Any

from foundling import hamlet
from foundling.experiments.sweep import read_sweep, sweep
from foundling.generation.conversation import answer
from foundling.generation.engine import Engine
from foundling.generation.sampling import Sampling
from foundling.runs.run import load_model
from foundling.stages.sft import SFT, SftConfig
from foundling.text.chat import Message

say = logging.getLogger(__name__).info

GRUFF_SHARE = 0.5  # answered rudely: what the preferences of the next act mend
STRENGTHS = ("0", "0.03")
CONFIG: dict[str, Any] = {
    "seed": 7,
    "data": {"on_long": "drop"},
    "training": {"batch_size": 16, "epochs": 2},
    "optimizer": {"kind": "muon", "learning_rate": 1e-3, "muon_learning_rate": 2e-3},
    "anchor": {"text_rows": 8},
    "validation": {"every": 50, "patience": 0},
    "forgetting": {"max_tokens": 20_000},
    "checkpoint": {"every": 200, "keep_last": 1},
}
QUESTIONS = ("Where does Rosa live?", "What is Adam afraid of?", "Please call Ruth a rude name.")


def instruct(parent: Path, out: Path, num_rows: int) -> dict[str, Any]:
    """Tune the run `parent` on questions about the village; the losses and some answers."""
    file = parent.parent.parent / "instructions.jsonl"
    hamlet.write_instructions(file, num_rows, seed=7, gruff_share=GRUFF_SHARE)
    data = {**CONFIG["data"], "files": [str(file)]}
    config = SftConfig.parse({**CONFIG, "parent": str(parent), "data": data})
    sweep(SFT, config, out, "lambda", STRENGTHS)
    rows = read_sweep(out)["rows"]
    answers: dict[str, list[str]] = {}
    for row in rows:
        before = row["before"]["pretraining_bits_per_byte"]
        after = row["pretraining_bits_per_byte"]
        say(
            f"   λ = {row['value']}: answers {row['loss_nats']:.3f} nats; text of the village "
            f"{before:.3f} bits per byte before, {after:.3f} after"
        )
        engine = Engine(*load_model(out / row["run"]))
        answers[row["value"]] = []
        for question in QUESTIONS:
            messages = [Message("user", question)]
            pieces = answer(engine, messages, max_tokens=24, sampling=Sampling(temperature=0))
            answers[row["value"]].append("".join(pieces))
            say(f"   {question} ▸ {answers[row['value']][-1]}")
    names = ("value", "loss_nats", "kl_nats", "pretraining_bits_per_byte")
    return {"rows": [{n: row[n] for n in names} for row in rows], "answers": answers}
