"""What tuning does to a real instruct model: answers before and after, and what is forgotten.

The verbs are run as on the command line: `sft` on instructions, whole and by LoRA, each with
several strengths of the anchor, and `dpo` on preferences, whole and by LoRA, with and without the
chosen answers' own loss. Told of each run are loss and KL, the loss on text it was not trained on
and on the parent's own answers to other instructions (`forgetting.prompts`), and answers to ten
prompts. `transformers` then opens the model, renders the prompts by its chat template, and should
end as many answers as it ends of the parent. There is no peer to compare with: no other trainer has
the anchor. What DIR holds already is not done again.

    python benchmarks/real_tuning.py --real-model DIR --data-root DIR --out DIR [--quick] [--json]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from pretrain import machine

INSTRUCTIONS, PAIRS = "dolly_instructions.jsonl", "hh_harmless_pairs.jsonl"
TEXT = "wikitext2_raw_test.txt"
SEED = 7
PROMPTS = (
    "What is the capital of France?",
    "Name three primary colours.",
    "Write one sentence about the sea.",
    "What is 12 + 30?",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue? Answer in one sentence.",
    "Give me a synonym of 'quick'.",
    "List two uses of salt.",
    "Is a tomato a fruit or a vegetable?",
    "How do I boil an egg?",
)
SETTINGS = {
    "sft-full": (
        "sft",
        "anchor.strength",
        ("0", "0.1", "0.5"),
        {"optimizer.learning_rate": "2e-5"},
    ),
    "sft-lora": ("sft", "anchor.strength", ("0", "0.1", "0.5"), {"adapter.rank": "16"}),
    "dpo-full": ("dpo", "dpo.nll", ("0", "0.5"), {"optimizer.learning_rate": "1e-6"}),
    "dpo-lora": ("dpo", "dpo.nll", ("0", "0.5"), {"adapter.rank": "16"}),
}


def foundling(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "foundling", *arguments], check=True)


def sample(source: Path, target: Path, number: int, longest: int, skip: int = 0) -> None:
    """Rows of a file drawn at random, none of more characters than `longest`."""
    rows = [line for line in source.read_text("utf-8").splitlines() if len(line) <= longest]
    random.Random(SEED).shuffle(rows)
    target.write_text("\n".join(rows[skip : skip + number]) + "\n", "utf-8")


def prepare(arguments: argparse.Namespace, out: Path) -> dict[str, Path]:
    """The files that are learned from, and those on which forgetting is measured."""
    out.mkdir(parents=True, exist_ok=True)
    root, quick = arguments.data_root, arguments.quick
    files = {name: out / f"{name}.jsonl" for name in ("instructions", "pairs", "others")}
    longest = 700 if quick else 1500
    sample(root / INSTRUCTIONS, files["instructions"], 40 if quick else 300, longest)
    sample(root / INSTRUCTIONS, files["others"], 40, longest, skip=1000)
    sample(root / PAIRS, files["pairs"], 40 if quick else 200, longest)
    files["text"] = out / "text"
    if not files["text"].exists():
        where = ("--tokenizer", str(arguments.real_model), "--out", str(files["text"]))
        foundling("data", "prepare", str(root / TEXT), *where, "--validation-tail", "0.5")
    return files


def tune(name: str, files: dict[str, Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """The sweep of one way; it is resumed where it stopped."""
    stage, key, values, further = SETTINGS[name]
    out, quick = arguments.out / name, arguments.quick
    rows = files["instructions" if stage == "sft" else "pairs"]
    settings = {
        "training.steps": "3" if quick else "60",
        "training.batch_size": "2",
        "schedule.warmup_steps": "1" if quick else "6",
        "validation.every": "3" if quick else "60",
        "validation.patience": "0",
        "validation.prompts": json.dumps(PROMPTS[: 2 if quick else None]),
        "validation.sample_tokens": "16" if quick else "48",
        "validation.sampling.temperature": "0",
        "checkpoint.keep_last": "1",
        "data.max_length": "512",
        "data.on_long": "drop",
        "forgetting.data": str(files["text"]),
        "forgetting.max_tokens": "512" if quick else "20000",
        "forgetting.prompts": json.dumps([str(files["others"])]),
        "forgetting.num_prompts": "2" if quick else "32",
        "forgetting.answer_tokens": "8" if quick else "48",
        "context": "512",
        **further,
    }
    given = [part for item in settings.items() for part in ("--set", "=".join(item))]
    config = Path(__file__).parents[1] / "configs" / f"{stage}.toml"
    resume = ["--resume"] if (out / "sweep.json").exists() else []
    places = [str(config), "--from", str(arguments.real_model), "--data", str(rows)]
    values = values[:1] if quick else values
    sweep = ["--sweep", f"{key}={','.join(values)}", "--out", str(out)]
    foundling(stage, *places, *sweep, *given, *resume)
    found: dict[str, Any] = json.loads((out / "sweep.json").read_text("utf-8"))
    for row in found["rows"]:
        told = [json.loads(line) for line in (out / row["run"] / "metrics.jsonl").open()]
        samples = [record["samples"] for record in told if record["split"] == "samples"]
        row["answers"] = {"before": samples[0], "after": samples[-1]}
        del row["path"]
    return found


def ended(folder: Path, number: int) -> tuple[int, list[str]]:
    """How many prompts `transformers` answers, and ends, by the model's own template."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts, count = [], 0
    for prompt in PROMPTS[:number]:
        tokens = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        written = model.generate(**tokens, do_sample=False, max_new_tokens=96)
        new = written[0, tokens["input_ids"].shape[1] :]
        count += 1 < len(new) < 96
        texts.append(tokenizer.decode(new))
    return count, texts


def merged(run: Path) -> Path:
    """The best model of a run as a plain folder."""
    from foundling.runs.model_folder import is_adapter, save_model, token_ids
    from foundling.runs.run import find_model, load_model

    folder = find_model(run)
    if not is_adapter(folder):
        return folder
    out = run / "merged"
    if not out.exists():
        save_model(*load_model(folder), out, token_ids(folder))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real-model", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("FOUNDLING_DATA_ROOT"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=SETTINGS, action="append", help="these ways alone")
    parser.add_argument("--quick", action="store_true", help="three steps of each way")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    arguments = parser.parse_args()
    if arguments.data_root is None:
        parser.error(f"give --data-root, a folder with {INSTRUCTIONS}, {PAIRS} and {TEXT}")
    arguments.data_root = Path(arguments.data_root)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    say = (lambda text: None) if arguments.json else (lambda text: print(text, file=sys.stderr))
    number = 2 if arguments.quick else len(PROMPTS)
    files = prepare(arguments, arguments.out / "data")
    ends, _ = ended(arguments.real_model, number)
    result: dict[str, Any] = {"name": "real_tuning", "unit": "nats", "ended_before": ends}
    for name in arguments.only or SETTINGS:
        found = result[name] = tune(name, files, arguments)
        for row in found["rows"]:
            folder = merged(arguments.out / name / row["run"])
            row["ended"], row["transformers"] = ended(folder, number)
            figures = {key: row[key] for key in ("loss_nats", "kl_nats", "ended")}
            say(f"{name}, {found['key']} = {row['value']}: {figures}")
    print(json.dumps({**result, "machine": machine()}))


if __name__ == "__main__":
    main()
