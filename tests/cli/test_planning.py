"""`foundling plan` as a user meets it."""

import json
from pathlib import Path

import pytest

from foundling import cli

CONFIG = """
context = 64
[model]
dim = 32
num_layers = 2
num_heads = 2
[training]
batch_size = 8
steps = 100
"""


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path / "run.toml"


def test_a_plan_is_shown_and_is_one_json_object(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    means = ("--gpus", 2, "--gpu", "h100", "--memory", "1GB", "--price", 2.5, "--budget", 1000)
    assert call("plan", config, "--vocab-size", 500, *means, "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    assert found["parameters"] == 500 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 96 + 2 * 32 + 2 * 16) + 32
    assert len(found["best_sizes"]["rules"]) == 2
    for words in ("2 GPUs", "full (2)", "Hoffmann et al. 2022", "tokens a day", "a cost of"):
        assert words in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--vocab-size: give it, or --data DIR"),
        (("--stage", "kto"), "--stage kto: only pretrain, sft, dpo can be planned"),
        (("--vocab-size", 9, "--gpu", "h10"), "--gpu h10: not in the table"),
        (("--vocab-size", 9, "--memory", "much"), "--memory much: expected an amount"),
        (("--vocab-size", 9, "--gpus", 9), "9 GPUs cannot share so few rows"),
    ],
)
def test_what_is_wrong_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], words: str
) -> None:
    assert call("plan", config, *arguments) == 2
    assert words in capsys.readouterr().err
