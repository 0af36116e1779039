"""Fine-tuning speed and memory beside TRL's SFTTrainer (and PEFT) on a real model.

The model that --model names (docs/results.md: SmolLM2-135M-Instruct) learns Dolly's answers through
its own chat template, at most 512 tokens each, by AdamW: all weights, or adapters of rank 16 on
every matrix of the blocks. TRL takes 8 examples a step, padded to the longest; ours packs about 8
into rows of 512. Ours and the peer train in turn, in processes of their own, round by round;
compared are the medians of examples a second over all steps but each process's first two, and the
most memory that each process held.

    python benchmarks/real_sft.py --model DIR --data-root DIR [--peer-python PATH] [--parity]
        [--quick] [--json]

With --parity both take the first 5 steps in fp32 on the same examples, all weights.
"""

import json
from pathlib import Path
from typing import Any

from sft import Task, apart, our_losses, ours, peer_losses, time_peer, tokenize
from side_by_side import Work, run

FILE, LIMIT = "dolly_instructions.jsonl", 1000
TASK = Task(style="chat", batch=8)


def prepare(data_root: Path, folder: Path) -> dict[str, Any]:
    """Write the examples that every variant starts from."""
    with (data_root / FILE).open(encoding="utf-8") as lines:
        kept = [line for line, _ in zip(lines, range(LIMIT), strict=False) if json.loads(line)]
    (folder / "examples.jsonl").write_text("".join(kept), "utf-8")
    return tokenize(folder, TASK)


SFT = Work(
    name="real_sft",
    unit="examples/s",
    file=FILE,
    ours=("ours bf16 lora", "ours bf16", "ours fp32 lora", "ours fp32"),
    peers=("trl bf16 lora", "trl bf16", "trl fp32 lora", "trl fp32", "trl bf16 lora checkpointing"),
    ratio_over="trl bf16 lora",
    prepare=prepare,
    step=lambda folder, how: ours(folder, how, TASK),
    peer=lambda folder, how, steps: time_peer(folder, how, steps, TASK),
    parity=lambda folder, peer: (peer_losses if peer else our_losses)(folder, task=TASK),
    compare=apart,
    real=True,
)

if __name__ == "__main__":
    run(SFT, __doc__)
