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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from side_by_side import WARM_UP, Measured, Step, Work, quiet, run, time_trainer

FILE = "hh_harmless_pairs.jsonl"
VOCAB, CONTEXT, LAYERS, HEADS, DIM, MLP_DIM = 8192, 512, 8, 8, 512, 1376
BATCH, LEARNING_RATE, SEED = 16, 2e-4, 1
STRENGTH = 0.1


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
    examples = _examples(folder)
    parts = [examples.rendered(index) for index in range(len(examples))]
    tokenized = [
        {"input_ids": part.tokens, "completion_mask": list(map(int, part.learned))}
        for part in parts
    ]
    (folder / "tokenized.json").write_text(json.dumps(tokenized), "utf-8")
    return facts | {
        "examples": len(examples),
        "tokens_an_example": round(examples.num_tokens / len(examples), 1),
        "share_of_tokens_learned": round(examples.num_targets / examples.num_tokens, 3),
        "rows_a_step": _rows_a_step(examples),
        "packing_efficiency": round(_data(folder).efficiency, 4),
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


def _examples(folder: Path) -> Any:
    from foundling.data.examples import Examples
    from foundling.data.reading import read_conversations
    from foundling.text.tokenizer import Tokenizer

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


def ours(folder: Path, how: str) -> Step:
    """Foundling's own parts, as `stages/sft.py` wires them."""
    import torch

    from foundling.base import runtime
    from foundling.base.precision import PRECISIONS, autocast
    from foundling.models import interchange
    from foundling.objectives import Sft
    from foundling.training.optimizers import Optimizer, OptimizerSettings

    precision, _, anchor = how.partition(" ")
    runtime.keep_memory()
    device = torch.device("cpu")
    runtime.use_deterministic_sums(device)
    dtype = PRECISIONS[precision]
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
        with autocast(device, dtype):
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


def trainer(folder: Path, how: str, steps: int, callbacks: Any, first: int | None) -> Any:
    """SFTTrainer with its defaults; gradient checkpointing, which costs time, if asked for."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    quiet()
    precision, _, checkpointing = how.partition(" ")
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
        gradient_checkpointing=bool(checkpointing),
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


def time_peer(folder: Path, how: str, steps: int) -> Measured:
    return time_trainer(
        lambda clock: trainer(folder, how, WARM_UP + steps, [clock], None).train(), BATCH
    )


def peer_loss(folder: Path) -> float:
    """The mean answer loss of the first examples in fp32, as SFTTrainer works it out."""
    import torch

    made = trainer(folder, "fp32", 1, None, BATCH)
    (batch,) = list(made.get_train_dataloader())
    made.model.eval()
    with torch.no_grad():
        return float(made.compute_loss(made.model, batch))


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
    parity=lambda folder, peer: peer_loss(folder) if peer else our_loss(folder),
    compare=lambda ours, peer: abs(ours - peer),
)

if __name__ == "__main__":
    run(SFT, __doc__)
