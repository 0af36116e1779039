"""Training speed beside a plain PyTorch loop over `transformers`' GPT-2 of the same size.

nanoGPT's GPU setting (6 layers, 6 heads, width 384, context 256, batch 64, dropout 0.2, characters)
on random tokens. Ours and the peer train in turn, in processes of their own, round by round; the
medians over all steps but each round's first are compared.

    python benchmarks/pretrain.py [--quick] [--json] [--steps N] [--rounds N]
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

VOCAB, CONTEXT, LAYERS, HEADS, DIM, DROPOUT = 72, 256, 6, 6, 384, 0.2
VARIANTS = ("ours bf16", "gpt2 fp32", "gpt2 bf16")


def ours(batch_size: int) -> Callable[[], None]:
    """Foundling's own parts, as `configs/shakespeare.toml` wires them."""
    import torch

    from foundling import models
    from foundling.base import runtime
    from foundling.base.precision import autocast
    from foundling.models.batch import TokenBatch
    from foundling.objectives import Pretrain
    from foundling.training.optimizers import Optimizer, OptimizerSettings

    runtime.keep_memory()
    device = torch.device("cpu")
    runtime.use_deterministic_sums(device)
    settings = {"dim": DIM, "num_layers": LAYERS, "num_heads": HEADS, "dropout": DROPOUT}
    model = models.build(
        {**settings, "mlp": "relu2", "tied": False, "init": "zero"},
        vocab_size=VOCAB,
        context=CONTEXT,
    )
    model.compile(dynamic=False)
    objective = Pretrain(compiled=True)
    optimizer = Optimizer(model, OptimizerSettings())
    positions = torch.arange(CONTEXT).expand(batch_size, CONTEXT)

    def step() -> None:
        tokens = torch.randint(0, VOCAB, (batch_size, CONTEXT + 1))
        batch = TokenBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), positions)
        optimizer.zero_grad()
        with autocast(device, torch.bfloat16):
            loss = objective(model, batch)
        loss.total.backward()
        optimizer.finish_gradients(float(loss.count))
        optimizer.step()

    return step


def peer(precision: str, batch_size: int) -> Callable[[], None]:
    """The loop that most people write: transformers' GPT-2, AdamW, clipping."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=CONTEXT,
        n_embd=DIM,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=DROPOUT,
        embd_pdrop=DROPOUT,
        attn_pdrop=DROPOUT,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))

    def step() -> None:
        tokens = torch.randint(0, VOCAB, (batch_size, CONTEXT + 1))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(input_ids=tokens[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), tokens[:, 1:].flatten()
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def time_variant(variant: str, steps: int, batch_size: int) -> list[float]:
    """Seconds of each step after the first, which compiles and warms up."""
    name, precision = variant.split()
    step = ours(batch_size) if name == "ours" else peer(precision, batch_size)
    step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    import torch

    from foundling.base import runtime

    device = torch.device("cpu")
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    flags = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in text]
    return {
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "instructions": flags,
        "tflops_fp32": round(runtime.matrix_rate(device, torch.float32) / 1e12, 3),
        "tflops_bf16": round(runtime.matrix_rate(device, torch.bfloat16) / 1e12, 3),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small batch, within a minute")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.rounds, arguments.batch_size = 1, 1, 4
    if arguments.variant:
        seconds = time_variant(arguments.variant, arguments.steps, arguments.batch_size)
        print(json.dumps(seconds))
        return
    variants = [v for v in VARIANTS if v.startswith("ours") or find_spec("transformers")]
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(arguments.rounds):
        for variant in variants:
            command = [sys.executable, __file__, "--variant", variant]
            command += ["--steps", str(arguments.steps), "--batch-size", str(arguments.batch_size)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            times[variant] += json.loads(output.splitlines()[-1])
            if not arguments.json:
                print(f"{variant}: {median(times[variant]):.2f} s a step", file=sys.stderr)
    tokens = arguments.batch_size * CONTEXT
    rates = {variant: tokens / median(seconds) for variant, seconds in times.items()}
    result = {
        "name": "pretrain",
        "unit": "tokens/s",
        "ours": round(rates["ours bf16"]),
        "peer": {v: round(rate) for v, rate in rates.items() if not v.startswith("ours")},
        "peer_name": "transformers GPT-2, plain loop" if len(variants) > 1 else None,
        "ratio": {
            v: round(rates["ours bf16"] / rate, 2) for v, rate in rates.items() if v != "ours bf16"
        },
        "batch_size": arguments.batch_size,
        "seconds": {v: [round(s, 3) for s in seconds] for v, seconds in times.items()},
        "machine": machine(),
    }
    if len(variants) == 1:
        print("transformers is not installed: no peer was measured", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
