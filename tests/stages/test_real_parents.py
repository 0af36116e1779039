"""Real weights as parents: their own turns, their own loss, and `transformers` afterwards."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling.data.conversations import SourcedConversation
from foundling.data.examples import Examples
from foundling.data.supervised import SupervisedData
from foundling.metrics.answers import measure_answers
from foundling.runs.run import load_model
from foundling.stages.adapter_folders import export_adapter, merge_adapter
from foundling.stages.sft import SftConfig, sft
from foundling.text.chat import Message

pytestmark = pytest.mark.real
ROWS = [
    ("What is the capital of France?", "Paris."),
    ("Name the highest mountain.", "The highest mountain on earth is Mount Everest."),
    ("Write a line about the sea.", "The sea keeps every secret that the rivers tell it."),
    ("What is 2 + 3?", "2 + 3 = 5"),
]


@pytest.fixture(autouse=True)
def quiet_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")


def turns(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def test_the_loss_before_training_is_that_of_transformers(
    real_model: Callable[[str], Path],
) -> None:
    import transformers

    folder, cpu = real_model("llama"), torch.device("cpu")
    model, tokenizer = load_model(folder)
    rows = [
        SourcedConversation("row", (Message("user", prompt), Message("assistant", answer)))
        for prompt, answer in ROWS
    ]
    examples, _ = Examples.make(rows, tokenizer, max_length=512)
    data = SupervisedData(examples, context=256, batch_size=2, seed=0)
    ours = measure_answers(
        model, data.ordered_batches(2), None, device=cpu, precision=torch.float32
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    speaker = transformers.AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for prompt, answer in ROWS:
        whole = speaker.apply_chat_template(turns(prompt, answer), return_dict=True)["input_ids"]
        asked = speaker.apply_chat_template(
            turns(prompt, answer)[:1], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        end = len(whole) - whole[::-1].index(speaker.eos_token_id)
        labels = [-100] * len(asked) + whole[len(asked) : end] + [-100] * (len(whole) - end)
        with torch.no_grad():
            loss = theirs(torch.tensor([whole]), labels=torch.tensor([labels])).loss
        total += loss.item() * (end - len(asked))
        count += end - len(asked)
    print(f"{ours.loss_nats:.5f} and {total / count:.5f} nats per token, {count} tokens")
    assert ours.count == count
    assert ours.loss_nats == pytest.approx(total / count, abs=1e-4)


def test_a_tuned_model_still_speaks_as_its_parent_did(
    real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    import transformers

    parent = real_model("llama")
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in ROWS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "parent": str(parent),
        "data": {
            "files": [str(tmp_path / "rows.jsonl")],
            "validation": [str(tmp_path / "rows.jsonl")],
        },
        "training": {"steps": 8, "batch_size": 2, "precision": "fp32", "device": "cpu"},
        "optimizer": {"learning_rate": 1e-3},
        "anchor": {"strength": 0},
        "validation": {"every": 8},
        "adapter": {"rank": 8},
        "followers": {"report": False},
    }
    run = sft(SftConfig.parse(settings), tmp_path / "run")
    assert run.manifest["learned_tokens"] == []
    size = sum(path.stat().st_size for path in run.checkpoints.rglob("*") if path.is_file())
    assert size < 60e6, "a checkpoint of adapters holds these alone"
    export_adapter(run, tmp_path / "adapter")
    merge_adapter(str(parent), tmp_path / "adapter", tmp_path / "merged")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    speaker = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert speaker.chat_template == transformers.AutoTokenizer.from_pretrained(parent).chat_template
    tokens = speaker.apply_chat_template(
        turns(*ROWS[0])[:1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**tokens, do_sample=False, max_new_tokens=20)
    text = speaker.decode(written[0, tokens["input_ids"].shape[1] :])
    print(text)
    assert text == "Paris.<|im_end|>"
