"""What the tests of several processes train on: text, conversations and preferences."""

import json
from pathlib import Path
from typing import Any

import pytest
from several import Settings
from tiny import TINY

from foundling import hamlet
from foundling.base.config import override
from foundling.data.reading import read_conversations

TUNING: dict[str, Any] = {
    "seed": 5,
    "context": 64,
    "data": {"on_long": "drop", "validation_fraction": 0.2},
    "training": {"batch_size": 5, "micro_batch_size": 2, "precision": "fp32", "device": "cpu"},
    "optimizer": {"learning_rate": 1e-3},
    "schedule": {"warmup_steps": 1},
    "validation": {"patience": 0},
    "followers": {"report": False},
}


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By stage, a file that it learns from."""
    folder = tmp_path_factory.mktemp("rows")
    hamlet.write_instructions(folder / "sft.jsonl", 60, seed=1)
    found, _ = read_conversations([folder / "sft.jsonl"])
    single = [c.messages for c in found if [m.role for m in c.messages] == ["user", "assistant"]]
    rude = ("Ask someone else!", "Go away, fool.", "What a silly question.")
    pairs = [
        {"prompt": asked.content, "chosen": answer.content, "rejected": rude[number % 3]}
        for number, (asked, answer) in enumerate(single)
    ]
    labelled = [
        {
            "prompt": pair["prompt"],
            "completion": pair["rejected" if number % 2 else "chosen"],
            "label": not number % 2,
        }
        for number, pair in enumerate(pairs)
    ]
    for name, content in (("dpo", pairs), ("kto", labelled)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in content))
    return {name: folder / f"{name}.jsonl" for name in ("sft", "dpo", "kto")}


@pytest.fixture(scope="session")
def pretraining(village: Path) -> Settings:
    """Settings of a rung, with overrides `section.key=value`; without dropout, by AdamW."""

    def make(rung: str, *assignments: str) -> dict[str, Any]:
        model = {**TINY["model"], "dropout": 0.0}
        values = {
            **TINY,
            "data": str(village),
            "context": 64,
            "model": model if rung == "transformer" else {"rung": rung, "dim": 16},
            "optimizer": {"kind": "adamw", "learning_rate": 1e-3},
        }
        return override(values, ["training.batch_size=5", "validation.prompts=[]", *assignments])

    return make


@pytest.fixture(scope="session")
def tuning(rows: dict[str, Path]) -> Settings:
    """Settings of a stage that tunes the run of a parent, with overrides."""

    def make(stage: str, parent: Path, *assignments: str) -> dict[str, Any]:
        values = {**TUNING, "parent": str(parent)}
        return override(values, [f'data.files=["{rows[stage]}"]', *assignments])

    return make
