"""What rounding costs is told, of the run's own text where that is there."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.data.store import TokenStore
from foundling.generation.kernels.library import available
from foundling.generation.opening import open_engine
from foundling.generation.rounding import PIECE, _bits_per_byte, measure_rounding
from foundling.generation.settings import EngineSettings
from foundling.models.finite import NotFiniteError
from foundling.runs.model_folder import save_model
from foundling.runs.run import find_model, load_model
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.text.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(not available(), reason="needs a C++ compiler")


def test_the_loss_by_rounding_is_told(
    tiny: Callable[..., PretrainConfig], village: Path, tmp_path: Path, said: list[str]
) -> None:
    pretrain(tiny("training.steps=2"), tmp_path / "run")
    folder = find_model(tmp_path / "run")
    said.clear()
    engine = open_engine(tmp_path / "run", settings=EngineSettings(quantize="int4"))
    (line,) = [line for line in said if "in int4" in line]
    assert "1,024 tokens of the run's validation text" in line
    loss = measure_rounding(engine, folder)
    assert str(loss) in line
    assert 0 < abs(loss.after - loss.before) < 0.05
    assert engine.stats()["prompt_tokens"] == 0

    model, tokenizer = load_model(folder)
    split = TokenStore.open(village).split("validation")
    model.eval()
    size = min(PIECE, model.max_context or PIECE) - 1
    nats, count = 0.0, 0
    for start in range(0, 1024, size):
        piece = [tokenizer.begin_ids[0], *split.read(start, min(start + size, 1024)).tolist()]
        with torch.inference_mode():
            logits = model.logits(model.hidden(torch.tensor([piece])))[0]
            log_probs = logits[:, : tokenizer.vocab_size].log_softmax(-1)
        for row, token in zip(log_probs[:-1].double(), piece[1:], strict=True):
            if tokenizer.token_bytes[token]:
                nats -= float(row[token])
                count += int(tokenizer.token_bytes[token])
    assert loss.before == pytest.approx(nats / math.log(2) / count, abs=1e-5)


def test_without_the_text_of_the_run_it_is_text_of_the_village(
    tiny: Callable[..., PretrainConfig], village: Path, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "mixture.toml").write_text('[[sources]]\ndata = "store"')
    (tmp_path / "store").symlink_to(village)
    pretrain(tiny("training.steps=1", f"data={tmp_path}/mixture.toml"), tmp_path / "run")
    (tmp_path / "store").unlink()
    said.clear()
    open_engine(tmp_path / "run", settings=EngineSettings(quantize="int8"))
    assert any("text of the village" in line for line in said)


def test_without_a_run_it_is_text_of_the_village(tmp_path: Path, said: list[str]) -> None:
    tokenizer = Tokenizer.train_bytes(["the miller met the baker"], 300)
    model = models.build({"dim": 16, "num_layers": 1}, vocab_size=300, context=64)
    save_model(model, tokenizer, tmp_path / "model", {})
    open_engine(tmp_path / "model", settings=EngineSettings(quantize="int8"))
    assert any("text of the village" in line for line in said)
    said.clear()
    open_engine(tmp_path / "model")
    assert not any("bits per byte" in line for line in said)


def test_a_model_that_cannot_be_measured_is_opened_and_the_reason_told(
    tmp_path: Path, said: list[str]
) -> None:
    tokenizer = Tokenizer.characters(["abc"])
    model = models.build({"dim": 16, "num_layers": 1}, vocab_size=tokenizer.vocab_size, context=8)
    save_model(model, tokenizer, tmp_path / "model", {})
    engine = open_engine(tmp_path / "model", settings=EngineSettings(quantize="int8"))
    (line,) = [line for line in said if "in int8" in line]
    assert "what the rounding costs could not be measured: " in line
    assert len(engine.run([engine.request("ab", max_tokens=2)])) == 1
    with pytest.raises(ConfigError, match="a text of 0 tokens is too short"):
        _bits_per_byte(engine, [])


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, quantize: Any) -> None:
    tokenizer = Tokenizer.train_bytes(["the miller met the baker"], 300)
    model = models.build({"dim": 16, "num_layers": 1}, vocab_size=300, context=64)
    with torch.no_grad():
        model.get_parameter("context.blocks.0.mlp.down.weight")[0, 3] = torch.nan
    save_model(model, tokenizer, tmp_path / "model", {})
    with pytest.raises(NotFiniteError, match=f"which {quantize} cannot hold"):
        open_engine(tmp_path / "model", settings=EngineSettings(quantize=quantize))
