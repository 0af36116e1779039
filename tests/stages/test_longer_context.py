"""A parent continued to a longer context: what may change, what cannot, who opens the result."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from foundling import models
from foundling.base.config import ConfigError, load_json, load_toml
from foundling.runs.run import Run, find_model, load_model
from foundling.stages.pretrain import PretrainConfig, pretrain

Tiny = Callable[..., PretrainConfig]
LONGER = ("training.steps=2", "context=64")
YARN = ("type=yarn", "factor=4.0", "original_context=16")
LLAMA3 = ("type=llama3", "factor=4.0", "low_freq_factor=1.0", "high_freq_factor=4.0",
          "original_context=16")  # fmt: skip


def scaled(*scaling: str) -> tuple[str, ...]:
    return tuple(f"model.rope_scaling.{setting}" for setting in scaling)


CHANGES = {
    "yarn": scaled(*YARN),
    "linear": scaled("type=linear", "factor=4.0"),
    "llama3": scaled(*LLAMA3),
    "base": ("model.rope_theta=400000.0",),
    "base and window": ("model.rope_theta=400000.0", "model.window=24", "model.full_layers=[1]"),
}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Run:
    return pretrain(tiny("training.steps=2"), tmp_path_factory.mktemp("parent") / "run")


def longer(tiny: Tiny, parent: Run, *changes: str) -> PretrainConfig:
    values = tiny(*LONGER).values() | {"parent": str(parent.folder), "model": {}}
    given = tiny(*LONGER, *changes).values()["model"]
    values["model"] = {key: given[key] for key in {c.split(".")[1].split("=")[0] for c in changes}}
    return PretrainConfig.parse(values)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_model_goes_on_at_four_times_its_context(
    tiny: Tiny, parent: Run, tmp_path: Path, kind: str
) -> None:
    run = pretrain(longer(tiny, parent, *CHANGES[kind]), tmp_path / "run")
    model = load_model(run.folder)[0]
    assert model.max_context == 64
    assert len(run.records()["validation"][0]["loss_by_position"]) == 64
    # transformers opens it and reads as far, with the same logits.
    folder = find_model(run.folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert theirs.config.max_position_embeddings == 64
    tokens = torch.randint(0, model.vocab_size, (2, 64), generator=torch.manual_seed(0))
    with torch.no_grad():
        mine = model.eval().logits(model.hidden(tokens))
        torch.testing.assert_close(mine, theirs(tokens).logits, rtol=1e-3, atol=2e-4)
    saved = load_toml(run.folder / "config.toml")
    assert (saved["context"], saved["model"]["num_layers"]) == (64, 2)


def test_it_begins_with_its_parents_weights_and_resumes(
    tiny: Tiny, parent: Run, tmp_path: Path
) -> None:
    config = longer(tiny, parent, *CHANGES["yarn"])
    run = pretrain(config, tmp_path / "run")
    before, _ = load_model(parent.folder)
    stretched = models.with_settings(
        before, context=64, rope_scaling={"type": "yarn", "factor": 4.0, "original_context": 16}
    )
    tokens = torch.arange(64)[None] % before.vocab_size
    with torch.no_grad():
        assert not torch.allclose(stretched.eval().hidden(tokens), before.eval().hidden(tokens))
    assert stretched.embed.weight is stretched.unembed.weight
    again = pretrain(config.model_copy(update={"parent": None}), run.folder, resume=True)
    assert again.records() == run.records()


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ((), (), r"reads at most 16 tokens; say how .*rope_theta \(it has 10000\).*factor=4 "),
        (("model.positions=learned",), (), "reads at most 16 tokens, for it has learned a vector"),
        (("model.positions=learned",), ("model.rope_theta=5e5",), "positions learned do not use"),
        ((), ("model.num_kv_heads=1",), "num_kv_heads = 1: the parent has 2; .*only dropout, rope"),
        ((), ("model.rope_fraction=0.5",), "rope_fraction = 0.5: the parent has 1.0"),
        ((), scaled("type=yarn", "factor=4.0"), "original_context"),
    ],
)
def test_what_it_cannot_is_said_in_a_line(
    tiny: Tiny, tmp_path: Path, settings: tuple[str, ...], change: tuple[str, ...], message: str
) -> None:
    base = pretrain(tiny("training.steps=1", *settings), tmp_path / "base")
    config = longer(tiny, base, *change)
    with pytest.raises(ConfigError, match=message):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("positions", ["sinusoidal", "none"])
def test_positions_that_have_no_end_need_no_word(
    tiny: Tiny, tmp_path: Path, positions: str
) -> None:
    base = pretrain(tiny("training.steps=1", f"model.positions={positions}"), tmp_path / "base")
    run = pretrain(longer(tiny, base), tmp_path / "run")
    assert load_json(find_model(run.folder) / "config.json")["foundling"]["context"] == 64
