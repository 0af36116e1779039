"""Preference tuning speed beside TRL's DPOTrainer on the same model, tokenizer and pairs.

A Llama of 29.5 million parameters (8 layers, 8 heads, width 512, SwiGLU 1376, 8192 tokens, tied)
learns which of two last answers of a dialogue of `hh_harmless_pairs.jsonl` was chosen, at most 512
tokens each, β 0.1, by AdamW. TRL takes 8 pairs a step, 16 sequences padded to the longest; ours
packs about 8 into rows of 512, each prompt once before its two answers. Ours and the peer train in
turn, in processes of their own, round by round; compared are the medians of pairs a second over all
steps but each process's first two.

    python benchmarks/dpo.py --data-root DIR [--peer-python PATH] [--parity] [--quick] [--json]

"live" computes the reference's log-probabilities in every step, as TRL does by default; "stored"
looks up what one pass over the pairs gave before (its rate is among the facts), as TRL does with
`precompute_ref_log_probs`. With --parity both take the first 5 steps in fp32 on the same pairs.
"""

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from sft import CONTEXT, FILE, lora_config, make_model, our_model
from side_by_side import WARM_UP, Measured, Step, Work, quiet, run, time_trainer

BATCH, BETA, LEARNING_RATE, SEED = 8, 0.1, 1e-5, 1
PARITY_STEPS = 5
FIGURES = ("loss", "margin", "chosen", "rejected")


# ---------------------------------------------------------------------- what both are given


def prepare(data_root: Path, folder: Path) -> dict[str, Any]:
    """Write the model, the tokenizer and the pairs that every variant starts from."""
    text = (data_root / FILE).read_text("utf-8")
    rows = map(json.loads, text.splitlines())
    facts = make_model((row["chosen"] + row["rejected"] for row in rows), folder)
    return facts | tokenize(data_root, folder)


def tokenize(data_root: Path, folder: Path, limit: int | None = None) -> dict[str, Any]:
    """Write the first pairs and their tokens, which the peer is given; facts about them."""
    lines = (data_root / FILE).read_text("utf-8").splitlines(keepends=True)
    (folder / "pairs.jsonl").write_text("".join(lines[:limit]), "utf-8")
    pairs = _pairs(folder)
    tokenized = [
        dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), _parts(pairs, index), strict=True))
        for index in range(len(pairs))
    ]
    (folder / "tokenized.json").write_text(json.dumps(tokenized), "utf-8")
    prompt, chosen, rejected = pairs.lengths.mean(0).round(1).tolist()
    data = _data(folder, pairs)
    return {
        "pairs": len(pairs),
        "tokens": {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        "rows_a_step": data.batch_size,
        "packing_efficiency": round(data.efficiency, 4),
    }


def _parts(pairs: Any, index: int) -> list[list[int]]:
    return [pairs.part(index, part)[0].tolist() for part in range(3)]


def _pairs(folder: Path) -> Any:
    from foundling.data.encoded_pairs import EncodedPairs
    from foundling.data.reading import read_pairs
    from foundling.text.tokenizer import Tokenizer

    found, _ = read_pairs([folder / "pairs.jsonl"], on_error="skip")
    tokenizer = Tokenizer.load(folder / "model")
    pairs, _ = EncodedPairs.make(found, tokenizer, max_length=CONTEXT, on_long="truncate_prompt")
    return pairs


def _data(folder: Path, pairs: Any) -> Any:
    """Rows of 512, or as long as the longest pair, and as many as hold one step of the peer."""
    from foundling.data.pairs import PreferenceData

    sizes = pairs.row_lengths(shared=True)
    row_length = max(CONTEXT, int(sizes.max()))
    rows = max(1, round(BATCH * sizes.mean() / row_length))
    return PreferenceData(pairs, row_length=row_length, batch_size=rows, seed=SEED)


# ---------------------------------------------------------------------- ours


def ours(folder: Path, how: str) -> Step:
    """Foundling's own parts, as `stages/dpo.py` wires them."""
    import torch

    from foundling.base import runtime
    from foundling.base.precision import PRECISIONS, autocast
    from foundling.objectives import Dpo
    from foundling.objectives.dpo import DpoSettings
    from foundling.training.optimizers import Optimizer, OptimizerSettings

    precision, reference_kind, *options = how.split()
    runtime.keep_memory()
    device = torch.device("cpu")
    runtime.use_deterministic_sums(device)
    dtype = PRECISIONS[precision]
    data = _data(folder, _pairs(folder))
    model, reference = _with_reference(folder, lora="lora" in options)
    if reference_kind == "stored":
        reference = _stored(folder, our_model(folder, lora=False), data, dtype)
    model.compile(dynamic=False)
    objective = Dpo(DpoSettings(beta=BETA), reference)
    settings = OptimizerSettings(kind="adamw", learning_rate=LEARNING_RATE, weight_decay=0.0)
    optimizer = Optimizer(model, settings)
    steps = iter(range(10**9))

    def step() -> int:
        batch = data.batch(next(steps))
        optimizer.zero_grad()
        model.train()
        with autocast(device, dtype):
            loss = objective(model, batch)
        loss.total.backward()
        optimizer.finish_gradients(float(loss.count))
        optimizer.step()
        return int(loss.count)

    return step


def _with_reference(folder: Path, *, lora: bool) -> tuple[Any, Any]:
    """The model, and the parent's log-probabilities: under adapters they are the model's own."""
    from foundling.objectives.reference import DisabledAdapter, FrozenModel
    from foundling.objectives.reference_log_probs import LiveLogProbs

    model = our_model(folder, lora=lora)
    frozen = DisabledAdapter(model) if lora else FrozenModel(our_model(folder, lora=False))
    return model, LiveLogProbs(frozen)


def _stored(folder: Path, model: Any, data: Any, dtype: Any) -> Any:
    import sys

    import torch

    from foundling.objectives.reference_log_probs import store_log_probs

    start = time.perf_counter()
    stored = store_log_probs(
        model,
        data.ordered_batches(),
        len(data.pairs),
        folder / "reference",
        {"pairs": data.pairs.fingerprint, "precision": str(dtype)},
        device=torch.device("cpu"),
        precision=dtype,
    )
    taken = time.perf_counter() - start
    print(f"the reference's pass: {len(data.pairs) / taken:.1f} pairs/s", file=sys.stderr)
    return stored


def our_steps(folder: Path, *, lora: bool = False) -> list[dict[str, float]]:
    """The figures of the first steps in fp32, each on the peer's pairs, packed, prompts shared."""
    import torch

    from foundling.data.pairs import PreferenceData
    from foundling.objectives import Dpo
    from foundling.objectives.dpo import DpoSettings
    from foundling.training.optimizers import Optimizer, OptimizerSettings

    pairs = _pairs(folder)
    data = PreferenceData(
        pairs, row_length=int(pairs.row_lengths(shared=True).max()), batch_size=1, seed=SEED
    )
    model, live = _with_reference(folder, lora=lora)
    objective = Dpo(DpoSettings(beta=BETA), live)
    optimizer = Optimizer(
        model,
        OptimizerSettings(kind="adamw", learning_rate=LEARNING_RATE, weight_decay=0.0, beta2=0.999),
    )
    found = []
    for first, stop in pairwise(range(0, (PARITY_STEPS + 1) * BATCH, BATCH)):
        optimizer.zero_grad()
        sums = dict.fromkeys(FIGURES, 0.0)
        for batch in data.of(range(first, stop)):
            loss = objective(model, batch)
            loss.total.backward()
            with torch.no_grad():
                before = live.log_probs(batch).sum((0, 1))
            sums["loss"] += float(loss.total)
            sums["margin"] += float(loss.metrics["margin"])
            sums["chosen"] += float(loss.metrics["chosen_change"] + before[0])
            sums["rejected"] += float(loss.metrics["rejected_change"] + before[1])
        optimizer.finish_gradients(float(BATCH))
        optimizer.step()
        found.append({name: value / BATCH for name, value in sums.items()})
    return found


# ---------------------------------------------------------------------- the peer


def trainer(folder: Path, how: str, steps: int, callbacks: Any, **more: Any) -> Any:
    """DPOTrainer with its defaults, but for gradient checkpointing, which costs time.

    It is given the same token ids, so that what it would do to texts first is left out.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    quiet()
    precision, reference, *options = how.split()
    config = DPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH,
        max_length=CONTEXT,
        max_steps=steps,
        beta=BETA,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        gradient_checkpointing="checkpointing" in options,
        precompute_ref_log_probs=reference == "stored",
        bf16=precision == "bf16",
        fp16=False,
        use_cpu=True,
        seed=SEED,
        dataloader_num_workers=0,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **more,
    )
    load = AutoModelForCausalLM.from_pretrained
    return Tokenized(
        model=load(str(folder / "model")),
        ref_model=None if "lora" in options else load(str(folder / "model")),
        args=config,
        train_dataset=Dataset.from_list(json.loads((folder / "tokenized.json").read_text("utf-8"))),
        processing_class=AutoTokenizer.from_pretrained(str(folder / "model")),
        callbacks=callbacks,
        peft_config=lora_config() if "lora" in options else None,
    )


def time_peer(folder: Path, how: str, steps: int) -> Measured:
    return time_trainer(lambda clock: trainer(folder, how, WARM_UP + steps, [clock]).train(), BATCH)


def peer_steps(folder: Path, *, lora: bool = False) -> list[dict[str, float]]:
    """The figures that DPOTrainer logs of its first steps, its pairs in the file's order."""
    names = dict(
        zip(FIGURES, ("loss", "rewards/margins", "logps/chosen", "logps/rejected"), strict=True)
    )
    made = trainer(
        folder,
        "fp32 live lora" if lora else "fp32 live",
        PARITY_STEPS,
        None,
        train_sampling_strategy="sequential",
        logging_steps=1,
        logging_strategy="steps",
    )
    made.train()
    logged = [record for record in made.state.log_history if "rewards/margins" in record]
    return [{ours: record[theirs] for ours, theirs in names.items()} for record in logged]


def apart(ours: Any, peer: Any) -> dict[str, float]:
    """The largest difference of each figure over the steps."""
    return {
        name: max(abs(a[name] - b[name]) for a, b in zip(ours, peer, strict=True))
        for name in FIGURES
    }


DPO = Work(
    name="dpo",
    unit="pairs/s",
    file=FILE,
    ours=("ours bf16 stored", "ours bf16 live", "ours fp32 stored", "ours fp32 live"),
    peers=("trl bf16 live", "trl bf16 stored", "trl fp32 live"),
    ratio_over="trl bf16 live",
    prepare=prepare,
    step=ours,
    peer=time_peer,
    parity=lambda folder, peer: (peer_steps if peer else our_steps)(folder),
    compare=apart,
)

if __name__ == "__main__":
    run(DPO, __doc__)
