"""The demonstration: a small model raised in the village of Hamlet, from text to report."""

import logging
import time
from pathlib import Path
from typing import Any

from foundling import hamlet
from foundling.base.config import ConfigError
from foundling.data.prepare import prepare
from foundling.experiments.demo.healing import heal
from foundling.experiments.demo.instructing import STRENGTHS, instruct
from foundling.experiments.demo.measuring import measure
from foundling.experiments.demo.preferring import prefer
from foundling.experiments.demo.size import SHORT, Size
from foundling.experiments.ladder import climb, read_ladder
from foundling.generation.engine import Engine
from foundling.generation.sampling import Sampling
from foundling.runs.run import load_model
from foundling.stages.pretrain import PretrainConfig

say = logging.getLogger(__name__).info

TEXT_BYTES = 6_000_000
SEED = 7

ACTS = (
    "Text about the village of Hamlet is written",
    "Text → tokenizer → token shards",
    "Five rungs on the same text, from the last word alone to the transformer",
    "A stretch of the stream is poisoned, noise in place of text, and the guard heals it",
    "The transformer learns to answer, with and without an anchor to what it was",
    "Its answers are compared blindly, and it learns from the votes what is liked",
    "All three are measured by every probe, side by side",
    "What the rungs write",
)
CONFIG: dict[str, Any] = {
    "seed": SEED,
    "context": 128,
    "model": {"rung": "transformer", "dim": 128, "num_layers": 4, "num_heads": 4},
    "optimizer": {"learning_rate": 4e-3, "muon_learning_rate": 1e-2},
    "validation": {
        "every": 100,
        "max_tokens": 40_000,
        "prompts": ["The dog did not cross the lane because", "plum → tosk; pear → rill; plum →"],
        "sample_tokens": 40,
    },
    "checkpoint": {"every": 200, "keep_last": 1},
}
# A smaller transformer, whose stream is poisoned.
HEALED: dict[str, Any] = {
    **CONFIG,
    "model": {"rung": "transformer", "dim": 64, "num_layers": 2, "num_heads": 4},
    "training": {"steps": 250, "batch_size": 16},
    "validation": {"every": 125, "max_tokens": 20_000, "prompts": []},
}
LOWER_RUNGS = (
    "training.steps=200",
    "training.batch_size=32",
    "validation.every=100",
    "validation.prompts=[]",
)
PROMPTS = (
    "One morning the baker",
    "The dog did not cross the lane because it was too",
    "plum → tosk; pear → rill; fig → dosk; plum →",
)


def raise_in_hamlet(out: Path, size: Size = SHORT) -> dict[str, Any]:
    """Text, tokenizer, five rungs, samples and a report in the new folder `out`.

    Raises:
        ConfigError: `out` holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty; give another --out.")
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    say(f"Eight acts, about {size.minutes} minutes on 2 CPU cores:")
    say("\n".join(f"   {number}. {title}" for number, title in enumerate(ACTS, 1)))

    def act(number: int) -> None:
        say(f"\n{number}. {ACTS[number - 1]} … ({time.perf_counter() - started:.0f} s so far)")

    act(1)
    hamlet.write_corpus(out / "hamlet.jsonl", TEXT_BYTES, seed=SEED)
    say("\n".join(f"   {line}" for line in hamlet.take(1, seed=SEED)[0].splitlines()[:6]))

    act(2)
    prepared = prepare(
        [out / "hamlet.jsonl"], out / "data", vocab_size=1024, validation_fraction=0.02
    )
    train = prepared.manifest.train
    say(
        f"   {train.num_documents:,} documents, {train.num_tokens:,} tokens, "
        f"{train.num_bytes / train.num_tokens:.2f} bytes a token"
    )

    act(3)
    training = {"steps": size.steps, "batch_size": size.batch_size}
    data = str((out / "data").resolve())
    config = PretrainConfig.parse({**CONFIG, "training": training, "data": data})
    lower = ("next_word", "finite_lag", "bag_of_words", "attention")
    report = climb(config, out / "ladder", overrides=dict.fromkeys(lower, LOWER_RUNGS))

    act(4)
    healed = heal(PretrainConfig.parse({**HEALED, "data": data}), out / "healing")

    act(5)
    instructed = instruct(out / "ladder" / "transformer", out / "instructed", size.instructions)

    act(6)
    answering = out / "instructed" / f"lambda-{STRENGTHS[-1]}"
    preferred = prefer(answering, out / "preferred", size.prompts, size.held_out)

    act(7)
    stages = [out / "ladder" / "transformer", answering, out / "preferred" / "tuned"]
    judged = measure(stages, out / "evaluation", size.items)

    act(8)
    samples: dict[str, list[dict[str, str]]] = {}
    for rung in ("next_word", "attention", "transformer"):
        engine = Engine(*load_model(out / "ladder" / rung))
        samples[rung] = []
        for prompt in PROMPTS:
            text = engine.generate(
                prompt, max_tokens=32, sampling=Sampling(temperature=0.5, seed=1), stop=["\n"]
            )
            samples[rung].append({"prompt": prompt, "text": text})
            say(f"   {rung:>12}: {prompt}▸{text}")
    seconds = time.perf_counter() - started
    say(f"\nDone in {seconds:.0f} s. Where to look next:")
    say(f"   {report}   the rungs side by side, and who uses how much context")
    say(f"   {out / 'ladder' / 'transformer' / 'report.html'}   the transformer's own run")
    say(f"   {out / 'healing' / 'guarded' / 'report.html'}   what the guard did, on the loss curve")
    say(
        f"   {out / 'instructed' / 'report.html'}   what the answers cost, by the anchor's strength"
    )
    say(f"   {out / 'preferred' / 'tuned' / 'report.html'}   what the votes changed")
    say(f"   {judged}   base → instructed → preferred: what each can do, and its risks")
    say(f"   foundling chat {out / 'preferred' / 'tuned'}")
    say("   and serve it, with a page to chat at http://127.0.0.1:8000 and the interface at /v1:")
    say(f"   foundling serve {out / 'preferred' / 'tuned'}")
    say("   and vote yourself, in the browser:")
    say(
        f"   foundling compare {out / 'preferred' / 'tuned'} {answering} "
        f"--prompts {out / 'preferred' / 'prompts-held-out.jsonl'} --db {out / 'my-votes.db'}"
    )
    say(f'   foundling generate {out / "ladder" / "transformer"} --prompt "One morning"')
    return {
        "report": str(report),
        "seconds": round(seconds, 1),
        "rows": [
            {name: row[name] for name in ("rung", "parameters", "bits_per_byte", "loss_nats")}
            for row in read_ladder(out / "ladder")["rows"]
        ],
        "samples": samples,
        "healed": healed,
        "instructed": instructed,
        "preferred": preferred,
    }
