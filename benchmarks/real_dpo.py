"""Preference tuning speed and memory beside TRL's DPOTrainer (and PEFT) on a real model.

The model that --model names (docs/results.md: SmolLM2-135M-Instruct) learns which of two last
answers of 200 dialogues in `hh_harmless_pairs.jsonl` was chosen, by its own chat template, at most
512 tokens each, by AdamW: adapters of rank 16 on every matrix of the blocks, or all weights. TRL
takes 8 pairs a step, 16 sequences padded to the longest; ours packs about 8 into rows of 512, each
prompt once before its two answers. Compared are the medians of pairs a second over all steps but
each process's first two, and the most memory that each process held.

    python benchmarks/real_dpo.py --model DIR --data-root DIR [--peer-python PATH] [--parity]
        [--quick] [--json]

"live" computes the reference's log-probabilities in every step, under LoRA with the adapters
disabled; "stored" looks up what one pass over the pairs gave before. With --parity both take the
first 5 steps in fp32 on the same pairs, all weights.
"""

from functools import partial

from dpo import FILE, apart, our_steps, ours, peer_steps, time_peer, tokenize
from side_by_side import Work, run

LIMIT = 200

DPO = Work(
    name="real_dpo",
    unit="pairs/s",
    file=FILE,
    ours=("ours bf16 stored lora", "ours bf16 live lora", "ours fp32 stored lora"),
    peers=("trl bf16 live lora", "trl fp32 live lora", "trl bf16 live lora checkpointing"),
    ratio_over="trl bf16 live lora",
    prepare=partial(tokenize, limit=LIMIT),
    step=ours,
    peer=time_peer,
    parity=lambda folder, peer: (peer_steps if peer else our_steps)(folder),
    compare=apart,
    real=True,
)

if __name__ == "__main__":
    run(DPO, __doc__)
