"""Fine-tuning speed beside TRL's SFTTrainer on the same model, tokenizer and examples.

A Llama of 29.5 million parameters (8 layers, 8 heads, width 512, SwiGLU 1376, 8192 tokens, tied)
learns the chosen conversations of `hh_harmless_pairs.jsonl`, at most 512 tokens each, the loss on
the last answer alone, by AdamW. TRL takes 16 examples a step, padded to the longest; ours packs
about 16 into rows of 512. Ours and the peer train in turn, in processes of their own, round by
round; compared are the medians of examples a second over all steps but each process's first two.

    python benchmarks/sft.py --data-root DIR [--peer-python PATH] [--parity] [--quick] [--json]

TRL's own packing needs FlashAttention, so it is not measured on a CPU.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from side_by_side import WARM_UP, Measured, Step, Work, quiet, run, time_trainer

FILE = "hh_harmless_pairs.jsonl"
VOCAB, CONTEXT, LAYERS, HEADS, DIM, MLP_DIM = 8192, 512, 8, 8, 512, 1376
BATCH, LEARNING_RATE, SEED = 16, 2e-4, 1
STRENGTH, RANK, ALPHA = 0.1, 16, 32
PARITY_STEPS = 5


@dataclass(frozen=True)
class Task:
    """What is done with the examples."""

    style: Literal["plain", "chat"] = "plain"
    batch: int = BATCH


PLAIN = Task()


# ---------------------------------------------------------------------- what both are given


def prepare(data_root: Path, folder: Path) -> dict[str, Any]:
    """Write the model, the tokenizer and the examples that every variant starts from."""
    rows = []
    with (data_root / FILE).open(encoding="utf-8") as lines:
        for line in lines:
            prompt, mark, completion = json.loads(line)["chosen"].rpartition("\n\nAssistant:")
            if prompt and completion.strip():
                rows.append({"prompt": prompt + mark, "completion": completion})
    texts = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "examples.jsonl").write_text(texts, "utf-8")
    facts = make_model((row["prompt"] + row["completion"] for row in rows), folder)
    return facts | tokenize(folder, PLAIN)


def tokenize(folder: Path, task: Task) -> dict[str, Any]:
    """Write the examples' tokens, which the peer is given; facts about them."""
    examples = _examples(folder, task)
    parts = [examples.rendered(index) for index in range(len(examples))]
    tokenized = [
        {"input_ids": part.tokens, "completion_mask": list(map(int, part.learned))}
        for part in parts
    ]
    (folder / "tokenized.json").write_text(json.dumps(tokenized), "utf-8")
    return {
        "examples": len(examples),
        "tokens_an_example": round(examples.num_tokens / len(examples), 1),
        "share_of_tokens_learned": round(examples.num_targets / examples.num_tokens, 3),
        "rows_a_step": _rows_a_step(examples, task),
        "packing_efficiency": round(_data(folder, task).efficiency, 4),
    }


def make_model(texts: Iterable[str], folder: Path) -> dict[str, Any]:
    """Write a tokenizer of the texts and a model with random weights that everyone can read."""
    import torch

    from foundling import models
    from foundling.models import interchange
    from foundling.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train_bytes(texts, VOCAB)
    torch.manual_seed(SEED)
    settings = {"dim": DIM, "num_layers": LAYERS, "num_heads": HEADS, "mlp_dim": MLP_DIM}
    model = models.build(
        {**settings, "qk_norm": False}, vocab_size=tokenizer.vocab_size, context=CONTEXT
    )
    ids = {"bos_token_id": tokenizer.begin_of_text, "eos_token_id": tokenizer.end_of_text}
    interchange.save(model, folder / "model", {**ids, "pad_token_id": tokenizer.pad})
    tokenizer.save(folder / "model")
    return {"parameters": model.num_parameters(), "vocabulary": tokenizer.vocab_size}


def _examples(folder: Path, task: Task) -> Any:
    from foundling.data.examples import Examples
    from foundling.data.reading import read_conversations
    from foundling.text.tokenizer import Tokenizer

    found, _ = read_conversations([folder / "examples.jsonl"])
    examples, _ = Examples.make(
        found,
        Tokenizer.load(folder / "model"),
        max_length=CONTEXT,
        style=task.style,
        on_long="truncate_prompt",
    )
    return examples


def _rows_a_step(examples: Any, task: Task) -> int:
    """The packed rows that hold as many examples as one step of the peer."""
    rows: int = round(task.batch * examples.num_tokens / len(examples) / CONTEXT)
    return max(1, rows)


def _data(folder: Path, task: Task) -> Any:
    from foundling.data.supervised import SupervisedData

    examples = _examples(folder, task)
    rows = _rows_a_step(examples, task)
    return SupervisedData(examples, context=CONTEXT, batch_size=rows, seed=SEED, packing=True)


# ---------------------------------------------------------------------- ours


def ours(folder: Path, how: str, task: Task = PLAIN) -> Step:
    """Foundling's own parts, as `stages/sft.py` wires them."""
    import torch

    from foundling.base import runtime
    from foundling.base.precision import PRECISIONS, autocast
    from foundling.objectives import Sft
    from foundling.training.optimizers import Optimizer, OptimizerSettings

    precision, *options = how.split()
    runtime.keep_memory()
    device = torch.device("cpu")
    runtime.use_deterministic_sums(device)
    dtype = PRECISIONS[precision]
    data = _data(folder, task)
    model = our_model(folder, lora="lora" in options)
    reference = _reference(folder, data, dtype, stored="stored" in options)
    model.compile(dynamic=False)
    anchored = "anchor" in options
    objective = Sft(*((STRENGTH, reference()) if anchored else (0.0, None)), compiled=True)
    settings = OptimizerSettings(kind="adamw", learning_rate=LEARNING_RATE)
    optimizer = Optimizer(model, settings)
    steps = iter(range(10**9))

    def step() -> int:
        index = next(steps)
        batch = data.batch(index)
        optimizer.zero_grad()
        model.train()
        with autocast(device, dtype):
            loss = objective(model, batch)
        loss.total.backward()
        optimizer.finish_gradients(float(loss.count))
        optimizer.step()
        rows = range(index * data.batch_size, (index + 1) * data.batch_size)
        return sum(len(data.examples_of(row)) for row in rows)

    return step


def our_model(folder: Path, *, lora: bool) -> Any:
    """The model, perhaps with adapters on every matrix of its blocks."""
    from foundling.models import adapters, interchange

    model = interchange.load(folder / "model")
    if lora:
        adapters.add_adapters(model, adapters.AdapterSettings(rank=RANK, alpha=ALPHA), SEED)
    return model


def _reference(folder: Path, data: Any, dtype: Any, *, stored: bool) -> Callable[[], Any]:
    import torch

    from foundling.models import interchange
    from foundling.objectives.reference import FrozenModel, store_hidden

    def make() -> Any:
        model = interchange.load(folder / "model")
        if not stored:
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

    return make


def our_losses(folder: Path, *, lora: bool = False, task: Task = PLAIN) -> list[float]:
    """The mean answer loss of the first steps in fp32, each on the peer's examples, packed."""
    from foundling.data.supervised import SupervisedData
    from foundling.objectives import Sft
    from foundling.training.optimizers import Optimizer, OptimizerSettings

    examples, objective = _examples(folder, task), Sft()
    model = our_model(folder, lora=lora)
    settings = OptimizerSettings(kind="adamw", learning_rate=LEARNING_RATE, weight_decay=0.0)
    optimizer, found = Optimizer(model, settings), []
    for first, stop in pairwise(range(0, (PARITY_STEPS + 1) * task.batch, task.batch)):
        some = _some(examples, first, stop)
        data = SupervisedData(some, context=CONTEXT, batch_size=1, seed=SEED)
        optimizer.zero_grad()
        total, count = 0.0, 0
        for batch in data.ordered_batches():
            loss = objective(model, batch)
            loss.total.backward()
            total, count = total + float(loss.total), count + int(loss.count)
        optimizer.finish_gradients(float(count))
        optimizer.step()
        found.append(total / count)
    return found


def _some(examples: Any, first: int, stop: int) -> Any:
    start, end = (int(examples.offsets[index]) for index in (first, stop))
    return replace(
        examples,
        tokens=examples.tokens[start:end],
        learned=examples.learned[start:end],
        kinds=examples.kinds[start:end],
        offsets=examples.offsets[first : stop + 1] - start,
        where=examples.where[first:stop],
    )


# ---------------------------------------------------------------------- the peer


def trainer(
    folder: Path, how: str, steps: int, callbacks: Any, task: Task = PLAIN, **more: Any
) -> Any:
    """SFTTrainer with its defaults; gradient checkpointing, which costs time, if asked for."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    quiet()
    precision, *options = how.split()
    rows = json.loads((folder / "tokenized.json").read_text("utf-8"))
    settings: dict[str, Any] = {
        "output_dir": str(folder / "trl"),
        "per_device_train_batch_size": task.batch,
        "max_length": CONTEXT,
        "max_steps": steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.1,
        "adam_beta2": 0.95,
        "completion_only_loss": True,
        "gradient_checkpointing": "checkpointing" in options,
        "bf16": precision == "bf16",
        "fp16": False,
        "use_cpu": True,
        "seed": SEED,
        "dataloader_num_workers": 0,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(folder / "model")),
        args=SFTConfig(**{**settings, **more}),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(str(folder / "model")),
        callbacks=callbacks,
        peft_config=lora_config() if "lora" in options else None,
    )


def lora_config() -> Any:
    """PEFT's adapters of the same shape on the same matrices as ours."""
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")


def time_peer(folder: Path, how: str, steps: int, task: Task = PLAIN) -> Measured:
    def train(clock: Any) -> None:
        trainer(folder, how, WARM_UP + steps, [clock], task).train()

    return time_trainer(train, task.batch)


def peer_losses(folder: Path, *, lora: bool = False, task: Task = PLAIN) -> list[float]:
    """The losses that SFTTrainer logs of its first steps, its examples in the file's order."""
    more = {"train_sampling_strategy": "sequential", "logging_steps": 1, "weight_decay": 0.0}
    how = "fp32 lora" if lora else "fp32"
    made = trainer(folder, how, PARITY_STEPS, None, task, logging_strategy="steps", **more)
    made.train()
    return [record["loss"] for record in made.state.log_history if "loss" in record]


def apart(ours: Any, peer: Any) -> float:
    """The largest difference over the steps."""
    return max(abs(a - b) for a, b in zip(ours, peer, strict=True))


SFT = Work(
    name="sft",
    unit="examples/s",
    file=FILE,
    ours=("ours bf16", "ours bf16 anchor", "ours bf16 stored anchor", "ours fp32"),
    peers=("trl bf16", "trl bf16 checkpointing", "trl fp32"),
    ratio_over="trl bf16",
    prepare=prepare,
    step=ours,
    peer=time_peer,
    parity=lambda folder, peer: (peer_losses if peer else our_losses)(folder),
    compare=apart,
)

if __name__ == "__main__":
    run(SFT, __doc__)
