"""Fine-tuning speed beside TRL's SFTTrainer on the same model, tokenizer and examples.

A Llama of 29.5 million parameters (8 layers, 8 heads, width 512, SwiGLU 1376, 8192 tokens, tied)
learns the chosen conversations of `hh_harmless_pairs.jsonl`, at most 512 tokens each, the loss on
the last answer alone, by AdamW. TRL takes 16 examples a step, padded to the longest; ours packs
about 16 into rows of 512. Ours and the peer train in turn, in processes of their own, round by
round; compared are the medians of examples a second over all steps but each process's first two.

    python benchmarks/sft.py --data-root DIR [--peer-python PATH] [--parity] [--quick] [--json]

TRL's own packing needs FlashAttention, so it is not measured on a CPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from pretrain import machine

FILE = "hh_harmless_pairs.jsonl"
VOCAB, CONTEXT, LAYERS, HEADS, DIM, MLP_DIM = 8192, 512, 8, 8, 512, 1376
BATCH, LEARNING_RATE, SEED = 16, 2e-4, 1
STRENGTH = 0.1
WARM_UP = 2  # steps: the first compiles and fills the allocator
OURS = ("ours bf16", "ours bf16 anchor", "ours bf16 stored anchor", "ours fp32")
PEERS = ("trl bf16", "trl fp32")
VARIANTS = (OURS[0], PEERS[0], *OURS[1:], PEERS[1])
Step = Callable[[], int]
"""Trains one step; how many examples it took."""


# ---------------------------------------------------------------------- what both are given


def prepare(data_root: Path, folder: Path) -> dict[str, Any]:
    """Write the model, the tokenizer and the examples that every variant starts from."""
    import torch

    from foundling import models
    from foundling.models import interchange
    from foundling.tokenizer import Tokenizer

    rows = []
    with (data_root / FILE).open(encoding="utf-8") as lines:
        for line in lines:
            prompt, mark, completion = json.loads(line)["chosen"].rpartition("\n\nAssistant:")
            if prompt and completion.strip():
                rows.append({"prompt": prompt + mark, "completion": completion})
    texts = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "examples.jsonl").write_text(texts, "utf-8")
    tokenizer = Tokenizer.train_bytes((r["prompt"] + r["completion"] for r in rows), VOCAB)
    torch.manual_seed(SEED)
    settings = {"dim": DIM, "num_layers": LAYERS, "num_heads": HEADS, "mlp_dim": MLP_DIM}
    model = models.build(
        {**settings, "qk_norm": False}, vocab_size=tokenizer.vocab_size, context=CONTEXT
    )
    ids = {"bos_token_id": tokenizer.begin_of_text, "eos_token_id": tokenizer.end_of_text}
    interchange.save(model, folder / "model", {**ids, "pad_token_id": tokenizer.pad})
    tokenizer.save(folder / "model")
    examples = _examples(folder)
    parts = [examples.rendered(index) for index in range(len(examples))]
    tokenized = [
        {"input_ids": part.tokens, "completion_mask": list(map(int, part.learned))}
        for part in parts
    ]
    (folder / "tokenized.json").write_text(json.dumps(tokenized), "utf-8")
    return {
        "parameters": model.num_parameters(),
        "vocabulary": tokenizer.vocab_size,
        "examples": len(examples),
        "tokens_an_example": round(examples.num_tokens / len(examples), 1),
        "share_of_tokens_learned": round(examples.num_targets / examples.num_tokens, 3),
        "rows_a_step": _rows_a_step(examples),
        "packing_efficiency": round(_data(folder).efficiency, 4),
    }


def _examples(folder: Path) -> Any:
    from foundling.data.conversations import read_conversations
    from foundling.data.examples import Examples
    from foundling.tokenizer import Tokenizer

    found, _ = read_conversations([folder / "examples.jsonl"])
    examples, _ = Examples.make(
        found,
        Tokenizer.load(folder / "model"),
        max_length=CONTEXT,
        style="plain",
        on_long="truncate_prompt",
    )
    return examples


def _rows_a_step(examples: Any) -> int:
    """The packed rows that hold as many examples as one step of the peer."""
    rows: int = round(BATCH * examples.num_tokens / len(examples) / CONTEXT)
    return max(1, rows)


def _data(folder: Path) -> Any:
    from foundling.data.supervised import SupervisedData

    examples = _examples(folder)
    return SupervisedData(
        examples, context=CONTEXT, batch_size=_rows_a_step(examples), seed=SEED, packing=True
    )


# ---------------------------------------------------------------------- ours


def ours(folder: Path, precision: str, anchor: str) -> Step:
    """Foundling's own parts, as `stages/sft.py` wires them."""
    import torch

    from foundling import runtime
    from foundling.models import interchange
    from foundling.objectives import Sft
    from foundling.training.optimizers import Optimizer, OptimizerSettings

    runtime.keep_memory()
    device = torch.device("cpu")
    runtime.use_deterministic_sums(device)
    dtype = runtime.PRECISIONS[precision]
    data = _data(folder)
    model = interchange.load(folder / "model")
    reference = _reference(folder, anchor, data, dtype)
    model.compile(dynamic=False)
    objective = Sft(STRENGTH if anchor else 0.0, reference, compiled=True)
    settings = OptimizerSettings(kind="adamw", learning_rate=LEARNING_RATE)
    optimizer = Optimizer(model, settings)
    steps = iter(range(10**9))

    def step() -> int:
        index = next(steps)
        batch = data.batch(index)
        optimizer.zero_grad()
        model.train()
        with runtime.autocast(device, dtype):
            loss = objective(model, batch)
        loss.total.backward()
        optimizer.finish_gradients(float(loss.count))
        optimizer.step()
        rows = range(index * data.batch_size, (index + 1) * data.batch_size)
        return sum(len(data.examples_of(row)) for row in rows)

    return step


def _reference(folder: Path, anchor: str, data: Any, dtype: Any) -> Any:
    import torch

    from foundling.models import interchange
    from foundling.objectives.reference import FrozenModel, store_hidden

    if not anchor:
        return None
    model = interchange.load(folder / "model")
    if anchor == "anchor":
        return FrozenModel(model)
    return store_hidden(
        model,
        data.ordered_batches(),
        data.num_targets,
        folder / "reference",
        {"examples": data.examples.fingerprint, "precision": str(dtype)},
        device=torch.device("cpu"),
        precision=dtype,
    )


def our_loss(folder: Path) -> float:
    """The mean answer loss of the first examples in fp32, packed."""
    import torch

    from foundling.data.supervised import SupervisedData
    from foundling.models import interchange
    from foundling.objectives import Sft

    data = SupervisedData(_first(_examples(folder)), context=CONTEXT, batch_size=BATCH, seed=SEED)
    model, objective = interchange.load(folder / "model").eval(), Sft()
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in data.ordered_batches():
            loss = objective(model, batch)
            total, count = total + float(loss.total), count + int(loss.count)
    return total / count


def _first(examples: Any) -> Any:
    from dataclasses import replace

    stop = int(examples.offsets[BATCH])
    return replace(
        examples,
        tokens=examples.tokens[:stop],
        learned=examples.learned[:stop],
        kinds=examples.kinds[:stop],
        offsets=examples.offsets[: BATCH + 1],
        where=examples.where[:BATCH],
    )


# ---------------------------------------------------------------------- the peer


def trainer(folder: Path, precision: str, steps: int, callbacks: Any, first: int | None) -> Any:
    """SFTTrainer with its defaults, but for gradient checkpointing, which costs time."""
    import logging

    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging
    from trl import SFTConfig, SFTTrainer

    logging.disable(logging.WARNING)
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    rows = json.loads((folder / "tokenized.json").read_text("utf-8"))[:first]
    config = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH,
        max_length=CONTEXT,
        max_steps=steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        adam_beta2=0.95,
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=precision == "bf16",
        fp16=False,
        use_cpu=True,
        seed=SEED,
        dataloader_num_workers=0,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(folder / "model")),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(str(folder / "model")),
        callbacks=callbacks,
    )


def time_peer(folder: Path, precision: str, steps: int) -> list[dict[str, float]]:
    """Examples and seconds from the end of one step to the end of the next."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer(folder, precision, WARM_UP + steps, [Clock()], None).train()
    ends = ends[WARM_UP - 1 :]
    pairs = pairwise(ends)
    return [{"examples": BATCH, "seconds": end - start} for start, end in pairs]


def peer_loss(folder: Path) -> float:
    """The mean answer loss of the first examples in fp32, as SFTTrainer works it out."""
    import torch

    made = trainer(folder, "fp32", 1, None, BATCH)
    (batch,) = list(made.get_train_dataloader())
    made.model.eval()
    with torch.no_grad():
        return float(made.compute_loss(made.model, batch))


# ---------------------------------------------------------------------- one process each


def answer(variant: str, folder: Path, steps: int) -> Any:
    """What the process of one variant prints."""
    name, precision, *more = variant.split()
    if precision == "loss":
        return our_loss(folder) if name == "ours" else peer_loss(folder)
    if name == "trl":
        return time_peer(folder, precision, steps)
    step = ours(folder, precision, " ".join(more))
    for _ in range(WARM_UP):
        step()
    measured = []
    for _ in range(steps):
        start = time.perf_counter()
        examples = step()
        measured.append({"examples": examples, "seconds": time.perf_counter() - start})
    return measured


class Processes:
    """Runs each variant in a process of its own, ours and the peer in their own interpreters."""

    def __init__(self, folder: Path, peer_python: str, steps: int) -> None:
        import torch

        self.folder, self.peer_python, self.steps = folder, peer_python, steps
        threads = str(torch.get_num_threads())
        self.environment = {**os.environ, "OMP_NUM_THREADS": threads, "TQDM_DISABLE": "1"}
        self.environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}

    def peer_versions(self) -> str | None:
        """None: the peer is not installed in its interpreter."""
        names = ("trl", "transformers", "torch")
        code = "from importlib.metadata import version as v; import trl; "
        code += f"print(', '.join(f'{{n}} {{v(n)}}' for n in {names}))"
        done = subprocess.run([self.peer_python, "-c", code], capture_output=True, text=True)
        return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else None

    def run(self, variant: str) -> Any:
        python = self.peer_python if variant.startswith("trl") else sys.executable
        command = [python, __file__, "--variant", variant, "--folder", str(self.folder)]
        command += ["--steps", str(self.steps)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{variant} failed:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def rates(measured: list[dict[str, float]]) -> Iterator[float]:
    return (step["examples"] / step["seconds"] for step in measured)


def compare(processes: Processes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every variant in turn, and the medians of the examples a second."""
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in arguments.variants}
    for _ in range(arguments.rounds):
        for variant, measured in found.items():
            measured += processes.run(variant)
            if not arguments.json:
                rate = median(rates(measured))
                print(f"{variant}: {rate:.2f} examples/s", file=sys.stderr)
    medians = {variant: median(rates(measured)) for variant, measured in found.items()}
    base = medians.get("trl bf16")
    return {
        "ours": {v: round(rate, 2) for v, rate in medians.items() if v in OURS},
        "peer": {v: round(rate, 2) for v, rate in medians.items() if v in PEERS},
        "ratio": {v: round(rate / base, 2) for v, rate in medians.items()} if base else {},
        "ratio_over": "trl bf16",
        "steps": {
            v: [[int(step["examples"]), round(step["seconds"], 3)] for step in measured]
            for v, measured in found.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default=os.environ.get("FOUNDLING_DATA_ROOT"))
    parser.add_argument("--peer-python", default=sys.executable, help="where TRL is installed")
    parser.add_argument("--parity", action="store_true", help="compare the loss, not the speed")
    parser.add_argument("--quick", action="store_true", help="two variants, one step each")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", dest="variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(answer(arguments.variant, arguments.folder, arguments.steps)))
        return
    if arguments.data_root is None:
        parser.error(f"--data-root: the folder of {FILE}; or set FOUNDLING_DATA_ROOT")
    if arguments.quick:
        arguments.steps, arguments.rounds, arguments.variants = 1, 1, VARIANTS[:2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = prepare(Path(arguments.data_root), folder)
        processes = Processes(folder, arguments.peer_python, arguments.steps)
        versions = processes.peer_versions()
        if versions is None:
            print(f"TRL is not installed in {arguments.peer_python}: left out", file=sys.stderr)
            arguments.variants = [v for v in arguments.variants if v in OURS]
        result: dict[str, Any] = {"name": "sft", "unit": "examples/s"}
        if arguments.parity:
            result = {"name": "sft parity", "unit": "nats", "ours": processes.run("ours loss")}
            if versions is not None:
                result["peer"] = processes.run("trl loss")
                result["difference"] = abs(result["ours"] - result["peer"])
        else:
            result |= compare(processes, arguments)
    result |= {"peer_name": versions and f"TRL SFTTrainer ({versions})", "work": work}
    print(json.dumps({**result, "machine": machine()}))


if __name__ == "__main__":
    main()
