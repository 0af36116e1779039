"""The preview shows what a stage learns: the same tokenizer, template, lengths and examples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foundling.base.config import ConfigError
from foundling.cli import app
from foundling.data.examples import Examples
from foundling.data.reading import read_conversations
from foundling.stages.origin import from_parent
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.stages.previewing import preview_of
from foundling.stages.sft import SftConfig, encode

CHATML = "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
ROWS = [
    {"messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"}]},
    {"messages": [{"role": "user", "content": "2+2?"},
                  {"role": "assistant", "content": "5", "weight": 0},
                  {"role": "user", "content": "No!"},
                  {"role": "assistant", "content": "4"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model reads 64 tokens and knows Foundling's roles."""
    place = tmp_path_factory.mktemp("previewed")
    config = tiny("context=64", "model.dim=16", "training.steps=1", "validation.every=1")
    return pretrain(config, place / "run").folder


def file_of(folder: Path, *rows: dict[str, Any]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize("template", [None, "chatml"])
def test_the_preview_is_what_the_stage_would_learn(
    model: Path, tmp_path: Path, template: str | None
) -> None:
    file = file_of(tmp_path, *ROWS)
    data = {"files": [file], "template": template}
    config = SftConfig.parse({"parent": str(model), "data": data})
    examples, tokenizer, notes = preview_of(config)
    origin = from_parent(config, tmp_path / "out", resume=False)
    found, report = read_conversations([file])
    learned, lengths = encode(config.data, found, origin.tokenizer, origin.context)
    assert examples.fingerprint == learned.fingerprint
    assert tokenizer.fingerprint == origin.tokenizer.fingerprint
    assert notes == [*report.lines(), *lengths.lines()]
    assert lengths.max_length == 64
    shown = tokenizer.decode(examples.rendered(0).tokens, show_special=True)
    assert (CHATML in shown) == (template == "chatml")


def test_what_is_too_long_for_the_model_is_said_before_training(
    model: Path, tmp_path: Path
) -> None:
    long = {"prompt": "the cat " * 99, "completion": "sat"}
    config = SftConfig.parse({"parent": str(model), "data": {"files": [file_of(tmp_path, long)]}})
    with pytest.raises(ConfigError, match=r"rows\.jsonl:1: .* tokens, but max_length is 64"):
        preview_of(config)


def test_a_store_of_tokens_is_enough(village: Path, tmp_path: Path) -> None:
    long = {"prompt": "the cat " * 99, "completion": "sat"}
    data = {"files": [file_of(tmp_path, long)]}
    examples, _, _ = preview_of(SftConfig.parse({"parent": str(village), "data": data}))
    assert isinstance(examples, Examples)
    assert examples.lengths.max() > 64


def test_the_verb_shows_markers_of_plain_text(model: Path, tmp_path: Path) -> None:
    file = file_of(tmp_path, {"prompt": "<|user|>the cat<|end_of_turn|><|assistant|>",
                              "completion": "sat<|end_of_turn|>"})  # fmt: skip
    verb = ["data", "preview", file, "--from", str(model), "--style", "plain"]
    told = CliRunner().invoke(app, verb)
    assert told.exit_code == 0
    assert "special tokens that rows spell stay text: <|user|> (1)" in " ".join(told.output.split())
    parsed = CliRunner().invoke(app, [*verb, "--special-tokens", "parse"])
    assert "stay text" not in parsed.output
    assert "learned  sat<|end_of_turn|>" in parsed.output
    set_by_hand = CliRunner().invoke(app, [*verb, "--set", "data.special_tokens=parse"])
    assert set_by_hand.output == parsed.output
