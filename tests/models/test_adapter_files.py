"""Adapters in and out of folders, with `peft` on `transformers` as the oracle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundling import models
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.models.adapter_files import load_adapter, save_adapter
from foundling.models.adapters import AdapterSettings, adapters_of, add_adapters
from foundling.models.batch import IGNORE, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import Sft
from foundling.training.optimizers import Optimizer, OptimizerSettings

VOCAB, CONTEXT, TOLERANCE = 67, 24, 1e-4
SHAPES: dict[str, dict[str, object]] = {
    "qwen3": {},
    "llama": {"qk_norm": False, "num_kv_heads": 2},
    "mistral": {"qk_norm": False, "window": 5},
    "qwen2": {"qk_norm": False, "qkv_bias": True},
}
pytestmark = pytest.mark.usefixtures("quiet_peers")
every_shape = pytest.mark.parametrize("name", SHAPES)


def build(**values: object) -> LanguageModel:
    torch.manual_seed(0)
    settings = {"dim": 32, "num_layers": 2, "num_heads": 4, **values}
    model = models.build(settings, vocab_size=VOCAB, context=CONTEXT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def tokens() -> torch.Tensor:
    return torch.randint(VOCAB, (3, CONTEXT), generator=torch.Generator().manual_seed(1))


def our_logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().logits(model(tokens()))


def their_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(tokens()).logits


def open_theirs(folder: Path) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def train(model: LanguageModel, steps: int = 3) -> None:
    """A few steps, large enough to be seen."""
    optimizer = Optimizer(model, OptimizerSettings(learning_rate=0.05))
    targets = tokens().roll(-1, 1)
    targets[:, -1] = IGNORE
    batch = TokenBatch(tokens(), targets, torch.arange(CONTEXT).expand(3, CONTEXT))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = Sft()(model.train(), batch)
        loss.total.backward()
        optimizer.finish_gradients(float(loss.count))
        optimizer.step()


@every_shape
@pytest.mark.parametrize(
    "values",
    [
        {"rank": 3, "alpha": 6.0},
        {"rank": 4, "alpha": 5.5, "rslora": True, "targets": ["q", "blocks.1.mlp.up"]},
    ],
)
def test_an_adapter_trained_here_gives_the_same_logits_with_peft(
    name: str, values: dict[str, object], tmp_path: Path
) -> None:
    import peft

    model = build(**SHAPES[name])
    interchange.save(model, tmp_path / "base")
    assert json.loads((tmp_path / "base" / "config.json").read_text())["model_type"] == name
    plain = our_logits(model)
    add_adapters(model, AdapterSettings.parse(values), seed=0)
    train(model)
    assert (our_logits(model) - plain).abs().max() > 0.1
    save_adapter(model, tmp_path / "adapter", base="base")
    theirs = peft.PeftModel.from_pretrained(open_theirs(tmp_path / "base"), tmp_path / "adapter")
    adapted = {n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    assert len(adapted) == len(adapters_of(model))
    difference = (their_logits(theirs) - our_logits(model)).abs().max().item()
    print(f"{name}: max difference {difference:.1e}")
    assert difference < TOLERANCE
    again = interchange.load(tmp_path / "base")
    load_adapter(again, tmp_path / "adapter")
    assert torch.equal(our_logits(again), our_logits(model))


THEIRS: dict[str, dict[str, Any]] = {
    "plain": {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"]},
    "all linear, rslora": {"r": 4, "target_modules": "all-linear", "use_rslora": True},
    "patterns": {
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 5, "up_proj": 2},
        "alpha_pattern": {r".*\.0\.mlp\.up_proj": 32, "v_proj": 3},
    },
    "one layer": {"target_modules": ["k_proj"], "layers_to_transform": [1]},
    "dropout": {"target_modules": r".*\.mlp\..*_proj", "lora_dropout": 0.25},
}


@pytest.mark.parametrize("case", THEIRS)
def test_an_adapter_made_with_peft_gives_the_same_logits_here(case: str, tmp_path: Path) -> None:
    import peft

    interchange.save(build(), tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", **THEIRS[case])
    theirs = peft.get_peft_model(open_theirs(tmp_path / "base"), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    theirs.save_pretrained(tmp_path / "adapter")
    model = interchange.load(tmp_path / "base")
    plain = our_logits(model)
    load_adapter(model, tmp_path / "adapter")
    assert (our_logits(model) - plain).abs().max() > 0.1
    assert (our_logits(model) - their_logits(theirs)).abs().max() < TOLERANCE
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trains
    assert all("lora_" in name for name in trains)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = build()
    add_adapters(model, AdapterSettings(rank=2, targets=("q", "up")), seed=0)
    save_adapter(model, tmp_path)
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, 'peft_type = "LOHA"'),
        ({"use_dora": True}, "use_dora = true"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, 'bias = "all": Foundling can load "none"'),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"a_key_of_tomorrow": {"x": 1}}, "a_key_of_tomorrow"),
        ({"r": "eight"}, 'r = "eight": Foundling can load whole numbers'),
        ({"r": 3}, "ask for"),
        ({"lora_alpha": None}, "lora_alpha = null"),
        ({"lora_dropout": 1}, "lora_dropout = 1"),
        ({"rank_pattern": {"(": 2}}, "regular expressions"),
        ({"rank_pattern": [2]}, "an object of patterns"),
        ({"use_rslora": "yes"}, "true or false"),
    ],
)
def test_what_foundling_cannot_wear_is_refused(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    edit(folder, **changes)
    model = build()
    before = our_logits(model)
    with pytest.raises(ConfigError) as error:
        load_adapter(model, folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not adapters_of(model)
    assert torch.equal(our_logits(model), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def drop_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors.popitem()


def add_magnitude(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = torch.ones(
        2
    )


def another_layer(tensors: dict[str, torch.Tensor]) -> None:
    name, tensor = tensors.popitem()
    tensors[name.replace("layers.1", "layers.7").replace("layers.0", "layers.7")] = tensor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_one, "ask for"),
        (add_magnitude, "is no adapter of a matrix"),
        (another_layer, "is no adapter of a matrix"),
        (dict.clear, "holds no adapter"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match=message):
        load_adapter(build(), folder)


def test_files_that_are_not_there_or_not_whole_are_refused(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_adapter(build(), folder)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(ConfigError, match="one JSON object"):
        load_adapter(build(), folder)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_adapter(build(), folder / "nowhere")


GPT2 = {"positions": "learned", "norm": "layernorm", "bias": True, "mlp": "gelu", "qk_norm": False}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GPT2, "joins or turns matrices .*merged model"),
        ({"positions": "sinusoidal"}, "knows no architecture .*merged model"),
    ],
)
def test_architectures_that_peft_cannot_follow_are_refused(
    values: dict[str, object], message: str, tmp_path: Path
) -> None:
    model = build(**values)
    add_adapters(model, AdapterSettings(), seed=0)
    with pytest.raises(ConfigError, match=message):
        save_adapter(model, tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


def test_a_model_without_adapters_has_none_to_save(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no adapters to save"):
        save_adapter(build(), tmp_path)
