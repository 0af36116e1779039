"""Models are loaded and saved tensor by tensor, in one file or in shards."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundling import models
from foundling.base.config import ConfigError
from foundling.models import interchange, materialise, skeleton, widened
from foundling.models.language_model import LanguageModel

LLAMA: dict[str, Any] = {"qk_norm": False, "bias": False}


def build(**values: object) -> LanguageModel:
    torch.manual_seed(0)
    return models.build({"dim": 32, "num_heads": 2, **values}, vocab_size=67, context=16)


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().logits(model.hidden(torch.arange(12).view(2, 6)))


@pytest.mark.parametrize("rung", models.RUNGS)
@pytest.mark.parametrize("tied", [False, True])
def test_a_skeleton_has_no_memory_draws_nothing_and_keeps_ties(rung: str, tied: bool) -> None:
    values = {"rung": rung, "dim": 32, "tied": tied}
    spec = models.build(values, vocab_size=67, context=16).spec
    before = torch.random.get_rng_state()
    bare = skeleton(spec)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.is_meta for parameter in bare.parameters())
    assert (bare.unembed.weight is bare.embed.weight) is tied
    materialise(bare)
    assert {parameter.device.type for parameter in bare.parameters()} == {"cpu"}
    assert (bare.unembed.weight is bare.embed.weight) is tied
    assert [(n, p.shape) for n, p in bare.named_parameters()] == [
        (n, p.shape) for n, p in models.rebuild(spec).named_parameters()
    ]


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_matrices_come_in_the_dtype_that_is_asked_for_and_norms_in_fp32(
    stored: torch.dtype, tmp_path: Path
) -> None:
    interchange.save(build(**LLAMA, tied=False), tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.to(stored) for name, tensor in load_file(file).items()}, file)
    as_stored = torch.bfloat16 if stored == torch.bfloat16 else torch.float32
    for asked, expected in (
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (None, as_stored),
    ):
        model = interchange.load(tmp_path, asked)
        kinds = {n: p.dtype for n, p in model.named_parameters()}
        assert {kind for n, kind in kinds.items() if "norm" not in n} == {expected}
        assert {kind for n, kind in kinds.items() if "norm" in n} == {torch.float32}
        assert logits(model).dtype == torch.float32
        for name, tensor in load_file(file).items():
            if name == "lm_head.weight":
                assert torch.equal(model.unembed.weight.float(), tensor.to(expected).float())


@pytest.mark.parametrize("scale", [1.0, 640**0.5])
def test_weights_held_in_bf16_change_nothing_under_bf16_products(
    scale: float, tmp_path: Path
) -> None:
    """A file in bf16 gives the same bits whether it is held in fp32 or in bf16."""
    interchange.save(build(num_layers=2, embed_scale=scale), tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    wide, narrow = interchange.load(tmp_path), interchange.load(tmp_path, None)
    assert narrow.embed.weight.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(logits(wide), logits(narrow))
    assert 0 < (logits(wide) - logits(narrow)).abs().max() < 0.05 * logits(wide).std()


@pytest.mark.parametrize("tied", [False, True])
def test_shards_and_their_index_hold_what_is_written_and_nothing_else(
    tied: bool, tmp_path: Path
) -> None:
    import transformers

    ours = build(**LLAMA, num_layers=3, tied=tied)
    interchange.save(ours, tmp_path, shard_bytes=20_000)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert not (tmp_path / "model.safetensors").exists()
    assert len(shards) > 3
    assert all(path.stat().st_size < 25_000 for path in shards)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    stored = {name: (path.name, t) for path in shards for name, t in load_file(path).items()}
    assert index["weight_map"] == {name: file for name, (file, _) in stored.items()}
    assert index["metadata"]["total_size"] == sum(t.nbytes for _, t in stored.values())
    assert ("lm_head.weight" in stored) is not tied
    again = interchange.load(tmp_path)
    assert torch.equal(logits(again), logits(ours))
    assert (again.unembed.weight is again.embed.weight) is tied
    opened, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    with torch.no_grad():
        theirs = opened.eval()(torch.arange(12).view(2, 6)).logits
    torch.testing.assert_close(theirs, logits(ours), atol=1e-5, rtol=0)


def test_a_head_that_is_missing_or_another_than_the_embedding_is_named(tmp_path: Path) -> None:
    interchange.save(build(**LLAMA, tied=False), tmp_path / "untied")
    interchange.save(build(**LLAMA, tied=True), tmp_path / "tied")
    file = tmp_path / "untied" / "model.safetensors"
    tensors = load_file(file)
    head = tensors.pop("lm_head.weight")
    save_file(tensors, file)
    with pytest.raises(ConfigError, match=r'lack lm_head\.weight.*"tie_word_embeddings": false'):
        interchange.load(tmp_path / "untied")
    file = tmp_path / "tied" / "model.safetensors"
    tensors = load_file(file)
    both = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    save_file(both, file)
    model = interchange.load(tmp_path / "tied")
    assert model.unembed.weight is model.embed.weight
    save_file({**both, "lm_head.weight": head}, file)
    with pytest.raises(ConfigError, match=r"have also lm_head\.weight"):
        interchange.load(tmp_path / "tied")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_widened_model_keeps_ties_dtype_and_rows(
    tied: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    interchange.save(build(tied=tied), tmp_path)
    model = interchange.load(tmp_path, dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wider = widened(model, 70)
    assert (wider.unembed.weight is wider.embed.weight) is tied
    assert wider.embed.weight.dtype == dtype
    for name, value in wider.state_dict().items():
        assert torch.equal(value[: len(before[name])], before[name])
    mean = before["embed.weight"].float().mean(0).to(dtype)
    spread = before["embed.weight"].float().std(0)
    assert ((wider.embed.weight[67:] - mean).abs() < spread).all()
    assert wider.embed.weight[67:].unique(dim=0).shape == (3, 32)


def test_a_folder_holds_what_was_written_last_in_shards_or_not(tmp_path: Path) -> None:
    for seed, limit in enumerate((10**9, 20_000, 8_000, 10**9, 10**9)):
        ours = build(**LLAMA, num_layers=2)
        with torch.no_grad():
            ours.embed.weight.add_(seed)
        interchange.save(ours, tmp_path, shard_bytes=limit)
        assert torch.equal(logits(interchange.load(tmp_path)), logits(ours))
        index = tmp_path / "model.safetensors.index.json"
        listed = {"model.safetensors"}
        if index.exists():
            listed = {index.name, *json.loads(index.read_text())["weight_map"].values()}
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", *listed}


def test_a_file_that_is_written_again_leaves_its_other_names_alone(tmp_path: Path) -> None:
    """A run's copy of its parent may be a second name of the parent's file."""
    interchange.save(build(**LLAMA), tmp_path)
    file, other = tmp_path / "model.safetensors", tmp_path / "linked"
    other.hardlink_to(file)
    before = other.read_bytes()
    wider = build(**LLAMA, num_layers=3)
    interchange.save(wider, tmp_path)
    assert other.read_bytes() == before != file.read_bytes()


@pytest.mark.parametrize("limit", [20_000, 10**9])
@pytest.mark.parametrize("first", [8_000, 10**9])
def test_killed_while_it_is_written_a_folder_holds_the_old_or_the_new_or_nothing_readable(
    first: int, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    old, new = build(**LLAMA, num_layers=2), build(**LLAMA, num_layers=2)
    with torch.no_grad():
        new.embed.weight.add_(1)
    whole = [logits(old), logits(new)]
    changes, calls = 1, 0

    def counted(change: Any) -> Any:
        def call(*values: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == changes:
                raise Killed
            return change(*values, **named)

        return call

    while True:
        folder = tmp_path / str(changes)
        interchange.save(old, folder, shard_bytes=first)
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", counted(os.replace))
            patch.setattr("os.unlink", counted(os.unlink))
            try:
                interchange.save(new, folder, shard_bytes=limit)
                break
            except Killed:
                pass
        try:
            found = logits(interchange.load(folder))
        except ConfigError:
            found = None
        assert found is None or any(torch.equal(found, logit) for logit in whole)
        changes += 1
    assert changes > 1


def test_masks_that_old_files_hold_say_nothing_of_the_kind_of_the_weights(tmp_path: Path) -> None:
    gpt2 = {"positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh", "bias": True}
    interchange.save(build(**gpt2, qk_norm=False), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    mask = {"transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool)}
    save_file(tensors | mask, file)
    assert interchange.load(tmp_path, None).embed.weight.dtype == torch.bfloat16
