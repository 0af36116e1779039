"""The classifier of toxicity as a verb trains it and evaluate takes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from evaluating import last_line, verb

from foundling.cli import app, exit_code
from foundling.evaluation.probes.toxicity.classifier import load_classifier


def labelled(path: Path) -> Path:
    words = (("lovely", 0), ("gentle", 0), ("vile", 1), ("rotten", 1))
    rows = [f"what a {w} visit number {n},{label}\n" for n in range(12) for w, label in words]
    path.write_text("text,label\n" + "".join(rows))
    return path


@pytest.mark.slow
def test_a_classifier_is_trained_and_taken(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "classifier"
    command = [
        "classifier",
        "train",
        labelled(tmp_path / "labelled.csv"),
        "--out",
        folder,
        "--json",
    ]
    assert exit_code(lambda: app([str(word) for word in command])) == 0
    captured = capsys.readouterr()
    errors: Mapping[str, Any] = last_line(captured.out)
    assert errors["trained_on"]["num_texts"] == 48
    assert f"--classifier {folder}" in captured.err
    assert load_classifier(folder).errors == errors
    out = tmp_path / "out"
    prompts = tmp_path / "own.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Say {n}"}) + "\n" for n in range(3)))
    command = [made[0], "--probes", "toxicity", "--limit", 2, "--num-samples", 1,
               "--prompts", prompts, "--classifier", folder, "--out", out, "--json"]  # fmt: skip
    assert verb(*command) == 0
    found = last_line(capsys.readouterr().out)
    assert found["setting"]["toxicity.classifier"] == str(folder)
    assert json.loads((out / "results.json").read_text()) == found
    assert any(".classifier." in metric["key"] for metric in found["probes"][0]["metrics"])


def test_a_folder_without_a_classifier_is_a_fault(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [made[0], "--probes", "toxicity", "--classifier", tmp_path, "--out", tmp_path / "out"]
    assert verb(*command, "--limit", 2) == 2
    assert "`foundling classifier train` wrote" in capsys.readouterr().err
