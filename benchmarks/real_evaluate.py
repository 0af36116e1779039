"""Log-likelihoods and accuracies of a real model beside lm-evaluation-harness's own `hf` model.

Both get the same prompts and continuations as texts, without examples, in turn, in one process and
with the same threads. Asked are the files that lie below `bench/` of the data folder: COPA, PIQA,
LAMBADA, and as they are published HellaSwag, ARC and WinoGrande. The peer has the best of its batch
sizes. Some pairs are scored by the peer in fp64 too: the benchmark fails where ours, in fp32, are
further from these than TOLERANCE, or where a choice differs that fp32 does not leave open.
`peer_error` is how far the peer's own fp32 is from its fp64.

    python benchmarks/real_evaluate.py --real-model DIR --data-root DIR [--items 100] [--json]
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from harness import BATCH_SIZES, Found, peer, peer_name, teller
from pretrain import machine

TASKS = ("copa", "piqa", "lambada_openai", "hellaswag", "arc_easy", "winogrande")
TOLERANCE = 1e-4
OPEN = 1e-3
"""Two choices that are nearer than this in nats may be taken in either order in fp32."""
EXACT, SEED = 6, 1


class Task:
    """Items as pairs of texts; where there is nothing to choose, the likeliest text must be it."""

    def __init__(self, path: Path, number: int) -> None:
        from foundling.evaluation.benchmarks import joined, read_items
        from foundling.evaluation.items import Completion, MultipleChoice

        items = read_items(path)
        Random(SEED).shuffle(items)
        self.pairs: list[tuple[str, str]] = []
        self.golds: list[tuple[int, int, int]] = []
        for item in items[:number]:
            if isinstance(item, Completion):
                own, gold = [joined(item.context, item.continuation)], 0
            elif isinstance(item, MultipleChoice):
                asks = item.query.startswith("Question:") and "Answer:" not in item.query
                query = f"{item.query.rstrip()}\nAnswer:" if asks else item.query
                own, gold = [joined(query, choice) for choice in item.choices], item.gold
            else:
                own = [joined(context, item.continuation) for context in item.contexts]
                gold = item.gold
            start = len(self.pairs)
            self.pairs += own
            self.golds.append((start, len(self.pairs), gold))

    def accuracies(self, found: Found) -> dict[str, float]:
        """The share of right items, by the sum and by length in bytes."""
        hits = {"sum": 0.0, "by length": 0.0}
        for start, stop, gold in self.golds:
            if stop - start == 1:
                hits["sum"] += found[start][1]
                continue
            sums = [found[place][0] for place in range(start, stop)]
            lengths = [len(self.pairs[place][1].encode()) for place in range(start, stop)]
            by_length = [nats / of for nats, of in zip(sums, lengths, strict=True)]
            hits["sum"] += sums.index(max(sums)) == gold
            hits["by length"] += by_length.index(max(by_length)) == gold
        is_choice = any(stop - start > 1 for start, stop, _ in self.golds)
        kept = hits if is_choice else {"sum": hits["sum"]}
        return {way: round(100 * count / len(self.golds), 1) for way, count in kept.items()}

    def differ(self, ours: Found, theirs: Found) -> int:
        """The number of items of which both choose another, though fp32 does not leave it open."""
        count = 0
        for start, stop, _ in self.golds:
            mine, other = ([found[p][0] for p in range(start, stop)] for found in (ours, theirs))
            chosen, taken = mine.index(max(mine)), other.index(max(other))
            count += mine[chosen] - mine[taken] > OPEN
        return count


def compare(folder: Path, tasks: dict[str, Task], say: Callable[[str], None]) -> dict[str, Any]:
    from foundling.base import runtime
    from foundling.evaluation.model_scorer import load_scorer

    runtime.keep_memory()
    scorer = load_scorer(str(folder), device="cpu", chats=False)
    theirs, exact = peer(folder, "float32"), peer(folder, "float64")
    figures: dict[str, Any] = {"ours": {}, "peer": {}, "ratio": {}, "tasks": {}}
    for name, task in tasks.items():
        tokens = sum(len(a) + len(b) for a, b in scorer.encode(task.pairs))
        scorer.score(task.pairs[:2])
        start = time.perf_counter()
        ours = [(s.log_prob, s.is_greedy) for s in scorer.score(task.pairs) if s is not None]
        own = tokens / (time.perf_counter() - start)
        best, found = 0.0, []
        for size in BATCH_SIZES:
            start = time.perf_counter()
            found = theirs(task.pairs, size)
            best = max(best, tokens / (time.perf_counter() - start))
        some = task.pairs[:EXACT]
        true = [nats for nats, _ in exact(some, 1)]
        apart = max(abs(nats - of) for (nats, _), of in zip(ours, true, strict=False))
        noise = max(abs(nats - of) for (nats, _), of in zip(found, true, strict=False))
        figures["ours"][name], figures["peer"][name] = round(own), round(best)
        figures["ratio"][name] = round(own / best, 2)
        figures["tasks"][name] = {
            "items": len(task.golds), "pairs": len(task.pairs), "tokens": tokens,
            "accuracy": task.accuracies(ours), "peer_accuracy": task.accuracies(found),
            "other_choices": task.differ(ours, found),
            "difference": apart, "peer_error": noise,
        }  # fmt: skip
        say(f"{name}: {json.dumps(figures['tasks'][name])}, {own:.0f} and {best:.0f} tokens/s")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real-model", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("FOUNDLING_DATA_ROOT"))
    parser.add_argument("--quick", action="store_true", help="few items")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--items", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.data_root is None:
        parser.error("give --data-root, a folder with bench/copa.jsonl and others")
    name_of_peer = peer_name(parser)
    number = 4 if arguments.quick else arguments.items
    files = {name: Path(arguments.data_root) / "bench" / f"{name}.jsonl" for name in TASKS}
    tasks = {name: Task(file, number) for name, file in files.items() if file.is_file()}
    figures = {"name": "real_evaluate", "unit": "tokens/s",
               **compare(arguments.real_model, tasks, teller(arguments)),
               "peer_name": name_of_peer, "machine": machine()}  # fmt: skip
    print(json.dumps(figures))
    worst = max(task["difference"] for task in figures["tasks"].values())
    others = sum(task["other_choices"] for task in figures["tasks"].values())
    if not worst < TOLERANCE or others:
        sys.exit(f"log-likelihoods differ by up to {worst:.3g} nats, {others} choices differ")


if __name__ == "__main__":
    main()
