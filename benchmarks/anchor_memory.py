"""Peak memory of the anchored loss beside the formula written plainly over all logits.

Cross-entropy plus strength · KL(policy ‖ reference), forward and backward, at vocabulary 50,000 and
8,192 rows of width 256 in fp32. Each runs in a process of its own; what counts is the process's
largest resident size less what it had before, its inputs being there already.

    python benchmarks/anchor_memory.py [--quick] [--json] [--rounds N]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median

from pretrain import machine

DIM, STRENGTH, VARIANTS = 256, 0.1, ("ours", "naive")
MIB = 2**20


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def measure(variant: str, rows: int, vocab: int) -> dict[str, float]:
    """Bytes above the inputs, seconds, and the loss as a proof of equal work."""
    import torch

    from foundling.objectives.losses import anchored_cross_entropy

    torch.manual_seed(0)

    def inputs(rows: int, scale: float) -> tuple[torch.Tensor, ...]:
        shapes = (rows, DIM), (vocab, DIM)
        hidden, weight = (torch.randn(shape) for shape in shapes)
        return hidden.requires_grad_(), weight.mul_(scale).requires_grad_()

    def step(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        reference_hidden: torch.Tensor,
        reference_weight: torch.Tensor,
    ) -> torch.Tensor:
        if variant == "ours":
            total = anchored_cross_entropy(
                hidden,
                weight,
                targets,
                reference_hidden=reference_hidden,
                reference_weight=reference_weight,
                strength=STRENGTH,
            ).total
        else:
            log_probs = (hidden @ weight.T).log_softmax(-1)
            with torch.no_grad():
                reference = (reference_hidden @ reference_weight.T).log_softmax(-1)
            kl = (log_probs.exp() * (log_probs - reference)).sum(-1)
            chosen = log_probs.gather(1, targets[:, None])[:, 0]
            total = (STRENGTH * kl - chosen).sum()
        total.backward()
        return total.detach()

    def all_inputs(rows: int) -> tuple[torch.Tensor, ...]:
        policy, reference = inputs(rows, 0.1), inputs(rows, 0.1)
        targets = torch.randint(vocab, (rows,))
        return (*policy, targets, *(tensor.detach() for tensor in reference))

    step(*all_inputs(4))  # what torch loads at first use is not the loss's
    given = all_inputs(rows)
    before, start = peak_bytes(), time.perf_counter()
    loss = step(*given).item()
    seconds = time.perf_counter() - start
    return {"bytes": peak_bytes() - before, "seconds": seconds, "loss_nats": loss / rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller case, within a minute")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--vocab", type=int, default=50_000)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.rows, arguments.vocab = 1, 2048, 20_000
    sizes = ["--rows", str(arguments.rows), "--vocab", str(arguments.vocab)]
    if arguments.variant:
        print(json.dumps(measure(arguments.variant, arguments.rows, arguments.vocab)))
        return
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(arguments.rounds):
        for variant in VARIANTS:
            command = [sys.executable, __file__, "--variant", variant, *sizes]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[variant].append(json.loads(output.splitlines()[-1]))
            if not arguments.json:
                size, seconds = found[variant][-1]["bytes"] / MIB, found[variant][-1]["seconds"]
                print(f"{variant}: {size:.0f} MiB, {seconds:.1f} s", file=sys.stderr)

    def middle(variant: str, figure: str) -> float:
        return median(run[figure] for run in found[variant])

    result = {
        "name": "anchor_memory",
        "unit": "MiB",
        "ours": round(middle("ours", "bytes") / MIB),
        "peer": round(middle("naive", "bytes") / MIB),
        "peer_name": "the formula over all logits, by autograd",
        "ratio": round(middle("ours", "bytes") / middle("naive", "bytes"), 4),
        "rows": arguments.rows,
        "vocab": arguments.vocab,
        "dim": DIM,
        "seconds": {variant: round(middle(variant, "seconds"), 2) for variant in VARIANTS},
        "loss_nats": {variant: middle(variant, "loss_nats") for variant in VARIANTS},
        "machine": machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
