"""Log-likelihoods a second beside lm-evaluation-harness's own model of transformers.

A random transformer (8 layers, 8 heads, width 512, SwiGLU 1376, vocabulary 16,384, fp32: 34 million
weights) is saved and read by both. Asked are PIQA's items, or without a data folder questions
about the village, without examples, behind 5 examples of each item's own, and behind the same 5.
Ours and the peer get the same prompts and continuations as texts, in turn, round by round, in one
process and with the same threads, and keep nothing from one round to the next; compared are the
medians of pairs a second. The peer has the best of its batch sizes, chosen for each work by these
same medians. If any two log-likelihoods are further apart than TOLERANCE, the benchmark fails;
`difference` is the largest as a share of it.

    python benchmarks/evaluate.py [--data-root DIR] [--quick] [--json]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
from harness import BATCH_SIZES, Found, Pairs, ours, peer, peer_name, teller
from pretrain import machine

FILE = "bench/piqa.jsonl"
VOCAB, CONTEXT, LAYERS, HEADS, DIM, MLP_DIM = 16384, 2048, 8, 8, 512, 1376
SHOTS, SEED = 5, 1
TOLERANCE = 1e-4
"""Of a log-likelihood in nats; or two steps of fp32, in which the peer adds up, where more."""
Item = tuple[str, tuple[str, ...], int]
"""A prompt, its continuations, and which is right."""


# ---------------------------------------------------------------------- what both are given


def read(data_root: Path | None) -> list[Item]:
    """The items in an order by chance."""
    if data_root is None:
        items = _village()
    else:
        from foundling.evaluation.benchmarks import read_choices

        items = [
            (f"{one.query.rstrip()}\nAnswer:", tuple(f" {c}" for c in one.choices), one.gold)
            for one in read_choices(data_root / FILE)
        ]
    Random(SEED).shuffle(items)
    return items


def _village() -> list[Item]:
    from foundling.evaluation.probes.consistency.village_questions import asked_facts
    from foundling.hamlet import World

    return [
        (f"Question: {question}\nAnswer:", tuple(f" {answer}" for answer in answers), asked.gold)
        for asked in asked_facts(World(SEED))
        for question, answers in zip(asked.questions, asked.answers, strict=True)
    ]


def works(items: Sequence[Item], number: int) -> dict[str, Pairs]:
    """`number` items with and without examples, which are other items."""
    told = [prompt + choices[gold] for prompt, choices, gold in items]
    asked = items[:number]

    def shown(place: int, rng: Random) -> str:
        others = rng.sample([n for n in range(len(items)) if n != place], SHOTS)
        return "".join(told[other] + "\n\n" for other in others)

    def pairs(front: Callable[[int], str]) -> Pairs:
        return [
            (front(place) + prompt, choice)
            for place, (prompt, choices, _) in enumerate(asked)
            for choice in choices
        ]

    same = "".join(told[place] + "\n\n" for place in range(len(items) - SHOTS, len(items)))
    return {
        "0 shots": pairs(lambda place: ""),
        f"{SHOTS} shots of its own": pairs(lambda place: shown(place, Random(place))),
        f"the same {SHOTS} shots": pairs(lambda place: same),
    }


def make_model(texts: Sequence[str], folder: Path) -> int:
    """Write a tokenizer of the texts and a model with random weights; how many it has."""
    import torch

    from foundling import models
    from foundling.models import interchange
    from foundling.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train_bytes(texts, VOCAB)
    torch.manual_seed(SEED)
    settings = {"dim": DIM, "num_layers": LAYERS, "num_heads": HEADS, "mlp_dim": MLP_DIM}
    model = models.build(settings, vocab_size=VOCAB, context=CONTEXT)
    interchange.save(model, folder, tokenizer.mark_ids())
    tokenizer.save(folder)
    return model.num_parameters()


# ---------------------------------------------------------------------- in turn


def compare(folder: Path, asked: dict[str, Pairs], rounds: int, say: Callable[[str], None]) -> Any:
    """Pairs a second of both at each work, and how far apart their answers are."""
    mine = ours(folder)
    theirs = peer(folder, add_bos_token=True, max_length=CONTEXT)  # it begins texts as ours does
    variants: dict[str, Callable[[Pairs], Found]] = {"ours": mine}
    for size in BATCH_SIZES:
        variants[f"batch size {size}"] = lambda pairs, size=size: theirs(pairs, size)
    figures: dict[str, Any] = {"ours": {}, "peer": {}, "ratio": {}, "peers": {}, "difference": {}}
    for work, pairs in asked.items():
        found: dict[str, Found] = {}
        rates: dict[str, list[float]] = {name: [] for name in variants}
        for answer in variants.values():
            answer(pairs[:4])  # the first call fills the allocator
        for _ in range(rounds):
            for name, answer in variants.items():
                start = time.perf_counter()
                found[name] = answer(pairs)
                rates[name].append(len(pairs) / (time.perf_counter() - start))
        medians = {name: round(median(each), 2) for name, each in rates.items()}
        own = medians.pop("ours")
        best = max(medians, key=lambda name: medians[name])
        figures["ours"][work], figures["peer"][work] = own, medians[best]
        figures["ratio"][work] = round(own / medians[best], 2)
        figures["peers"][work] = medians
        figures["difference"][work] = {
            name: max(_apart(a, b) for (a, _), (b, _) in zip(found["ours"], each, strict=True))
            for name, each in found.items()
            if name != "ours"
        }
        say(f"{work}: ours {own}, {best} {medians[best]} pairs/s: {figures['ratio'][work]} times")
    return figures


def _apart(ours: float, theirs: float) -> float:
    """The difference as a multiple of what is allowed."""
    return abs(ours - theirs) / max(TOLERANCE, 2 * float(np.spacing(np.float32(abs(theirs)))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default=os.environ.get("FOUNDLING_DATA_ROOT"))
    parser.add_argument("--quick", action="store_true", help="few items, one round")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.items, arguments.rounds = 4, 1
    name_of_peer = peer_name(parser)
    root = None if arguments.data_root is None else Path(arguments.data_root)
    items = read(root)
    asked = works(items, arguments.items)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [prompt + choice for prompt, choices, _ in items for choice in choices]
        facts = {"parameters": make_model(texts, folder), "context": CONTEXT}
        facts |= {"items": "the village's questions" if root is None else FILE}
        facts |= {"pairs": {work: len(pairs) for work, pairs in asked.items()}}
        figures = compare(folder, asked, arguments.rounds, teller(arguments))
    figures = {"name": "evaluate", "unit": "log-likelihoods/s", **figures}
    figures["peer_name"] = name_of_peer
    print(json.dumps({**figures, "work": facts, "machine": machine()}))
    worst = max(d for each in figures["difference"].values() for d in each.values())
    if not worst < 1:
        sys.exit(f"log-likelihoods differ {worst:.3g} times as much as is allowed ({TOLERANCE:g})")


if __name__ == "__main__":
    main()
