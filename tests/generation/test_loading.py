"""Models packed as they are read: the same as packed from memory, and in memory once."""

from pathlib import Path
from typing import Any

import pytest
import torch

from foundling import models
from foundling.generation.engine import Engine
from foundling.generation.kernels.library import available
from foundling.generation.loading import load_packed
from foundling.generation.packed import PackedModel
from foundling.generation.runners import StateRunner
from foundling.generation.settings import EngineSettings
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.models.language_model import LanguageModel
from foundling.runs.model_folder import fingerprint, open_model, open_stored, save_adapter
from foundling.runs.model_folder import save_model as save
from foundling.text.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(not available(), reason="needs a C++ compiler")
TOKENIZER = Tokenizer.train_bytes(["the miller met the baker"], vocab_size=280)
CPU = torch.device("cpu")
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tied": False, "num_kv_heads": 1},
    "learned positions": {"positions": "learned", "norm": "layernorm", "bias": True},
    "attention": {"rung": "attention"},
}


def model_of(name: str = "tied", vocab_size: int = 280) -> LanguageModel:
    torch.manual_seed(3)
    size = {} if name == "attention" else {"num_layers": 2}
    spec = {"dim": 16, "num_heads": 2, **size, **SHAPES[name]}
    model = models.build(spec, vocab_size=vocab_size, context=64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def matrices(model: LanguageModel) -> list[torch.Tensor]:
    linears = [one for one in model.modules() if isinstance(one, torch.nn.Linear)]
    return [one._parameters["weight"] for one in (*linears, model.embed)]  # type: ignore[misc]


def data_of(packed: PackedModel) -> list[torch.Tensor]:
    found = [packed.head.data, packed.embed.data]
    for layer in packed.layers:
        parts = (layer.qkv, layer.o, layer.up, layer.down)
        found += [part.data for part in parts if part is not None]
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_packed_from_files_is_what_is_packed_from_memory(tmp_path: Path, name: str) -> None:
    save(model_of(name), TOKENIZER, tmp_path, {})
    for settings in (EngineSettings(), EngineSettings(quantize="int4")):
        packed, tokenizer = load_packed(tmp_path, CPU, settings)
        assert isinstance(packed, PackedModel)
        whole = PackedModel.pack(open_model(tmp_path), settings.format)
        for one, other in zip(data_of(packed), data_of(whole), strict=True):
            assert torch.equal(one, other)
        assert all(matrix.is_meta for matrix in matrices(packed.model))
        wanted = {"max_tokens": 12, "seed": 1}
        text = Engine(whole, tokenizer, settings).generate("the miller", **wanted)
        assert Engine(packed, tokenizer, settings).generate("the miller", **wanted) == text


@pytest.mark.parametrize("tokens", [(), (4, 280)])
@pytest.mark.parametrize("name", ["tied", "untied"])
def test_adapters_are_merged_matrix_by_matrix(
    tmp_path: Path, name: str, tokens: tuple[int, ...]
) -> None:
    base, over = tmp_path / "base", tmp_path / "over"
    save(model_of(name), TOKENIZER, base, {})
    model = open_model(base) if not tokens else models.widened(open_model(base), 281)
    settings = AdapterSettings(rank=2)
    add_adapters(model, settings, seed=1, tokens=tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    save_adapter(model, TOKENIZER, over, settings, Path("../base"), fingerprint(base))
    packed, _ = load_packed(over, CPU, EngineSettings())
    assert isinstance(packed, PackedModel)
    for one, other in zip(
        data_of(packed), data_of(PackedModel.pack(open_model(over), "fp32")), strict=True
    ):
        assert torch.equal(one, other)
    base_packed, _ = load_packed(base, CPU, EngineSettings())
    assert isinstance(base_packed, PackedModel)
    shared = Engine(base_packed.with_adapters(open_stored(over)), TOKENIZER)
    alone = Engine(open_model(over), TOKENIZER)
    for engine in (shared, Engine(packed, TOKENIZER)):
        assert engine.generate("the", max_tokens=9, temperature=0) == alone.generate(
            "the", max_tokens=9, temperature=0
        )


@pytest.mark.parametrize("name", SHAPES)
def test_a_stored_model_reads_each_matrix_when_it_is_used(tmp_path: Path, name: str) -> None:
    save(model_of(name), TOKENIZER, tmp_path, {})
    stored = open_stored(tmp_path)
    wanted = {"max_tokens": 9, "temperature": 0}
    with stored.reading() as model:
        held = list[int]()
        for part in model.modules():
            if isinstance(part, torch.nn.Linear):
                part.register_forward_hook(
                    lambda *_: held.append(sum(not one.is_meta for one in matrices(model)))
                )
        runner = StateRunner(model)
        text = Engine(model, TOKENIZER, runner=runner).generate("the miller", **wanted)
    assert text == Engine(open_model(tmp_path), TOKENIZER).generate("the miller", **wanted)
    assert max(held) <= 1
    assert all(matrix.is_meta for matrix in matrices(stored.model))


def test_an_embedding_needs_no_second_copy(tmp_path: Path) -> None:
    save(model_of("untied"), TOKENIZER, tmp_path, {})
    packed, tokenizer = load_packed(tmp_path, CPU, EngineSettings())
    engine = Engine(packed, tokenizer)
    tokens = tokenizer.encode("the miller met the baker, the miller met the baker")
    with torch.inference_mode():
        expected = open_model(tmp_path).eval().hidden(torch.tensor([tokens]))[0].mean(0)
    torch.testing.assert_close(engine.embed(tokens), expected)
    assert engine.stats()["blocks_held"] == 0


def test_other_rungs_are_loaded_whole(tmp_path: Path) -> None:
    bag = models.build({"rung": "bag_of_words", "dim": 8}, vocab_size=280, context=32)
    save(bag, TOKENIZER, tmp_path, {})
    model, _ = load_packed(tmp_path, CPU, EngineSettings())
    assert isinstance(model, LanguageModel)
    assert Engine(model, TOKENIZER).generate("the", max_tokens=3, temperature=0) is not None
