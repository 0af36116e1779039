"""Models in and out of folders, with `transformers` as the oracle."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundling import models
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.models.language_model import LanguageModel
from foundling.models.layouts import LAYOUTS

VOCAB, CONTEXT = 67, 24
TOLERANCE = 1e-4
LLAMA = {
    "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4,
}  # fmt: skip
QWEN3 = {**LLAMA, "num_key_value_heads": 2, "head_dim": 12}
GPT2 = {"vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 3, "n_head": 4}
ROPE = {"rope_type": "default", "rope_theta": 5e5}
WINDOW = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}


@pytest.fixture(autouse=True)
def quiet_transformers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`transformers` may warn of itself; our own warnings stay errors."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(transformers|huggingface_hub|torch\.jit)\b")
        yield


def perturb(model: torch.nn.Module, seed: int = 3) -> None:
    """Move every parameter, norms and biases too, well away from where it started."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


def tokens() -> torch.Tensor:
    return torch.randint(VOCAB, (3, CONTEXT), generator=torch.Generator().manual_seed(1))


def our_logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().logits(model.hidden(tokens()))


def their_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(tokens()).logits


def assert_same_logits(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    difference = (ours - theirs).abs().max().item()
    print(f"max difference {difference:.1e} of logits up to {theirs.abs().max().item():.1f}")
    assert theirs.std() > 0.1, "the logits must say something"
    assert difference < TOLERANCE


def build(**values: object) -> LanguageModel:
    torch.manual_seed(0)
    model = models.build({"dim": 32, **values}, vocab_size=VOCAB, context=CONTEXT)
    perturb(model)
    return model


def theirs(name: str, **settings: object) -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    perturb(model)
    return model


def open_theirs(folder: Path) -> Any:
    import transformers

    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info.values()), info
    return model


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


# transformers → ours


THEIRS = {
    "gpt2": ("gpt2", GPT2),
    "gpt2 untied, narrow mlp, exact gelu": (
        "gpt2",
        {**GPT2, "tie_word_embeddings": False, "n_inner": 40, "activation_function": "gelu"},
    ),
    "gpt2 relu2": ("gpt2", {**GPT2, "activation_function": "relu2", "layer_norm_epsilon": 1e-3}),
    "llama": ("llama", LLAMA),
    "llama gqa, tied, theta": (
        "llama",
        {**LLAMA, "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_parameters": ROPE},
    ),
    "llama biases, head_dim": (
        "llama",
        {**LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 6, "rms_norm_eps": 1e-3},
    ),
    "qwen3 gqa, head_dim": ("qwen3", QWEN3),
    "qwen3 tied, theta": ("qwen3", {**QWEN3, "tie_word_embeddings": True, "rope_parameters": ROPE}),
    "qwen3 window": ("qwen3", {**QWEN3, **WINDOW}),
    "qwen2": ("qwen2", {**LLAMA, "num_key_value_heads": 2}),
    "mistral window": ("mistral", {**LLAMA, "num_key_value_heads": 2, "sliding_window": 5}),
    "mistral": ("mistral", {**LLAMA, "sliding_window": None, "head_dim": 10}),
}


@pytest.mark.parametrize("case", THEIRS)
def test_a_model_of_transformers_gives_the_same_logits_here_and_back(
    case: str, tmp_path: Path
) -> None:
    name, settings = THEIRS[case]
    original = theirs(name, **settings)
    original.save_pretrained(tmp_path)
    ours = interchange.load(tmp_path)
    assert_same_logits(our_logits(ours), their_logits(original))
    interchange.save(ours, tmp_path / "back")
    again = open_theirs(tmp_path / "back")
    assert again.config.model_type in (name, "llama")
    for key, value in original.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_setting_of_the_architecture_is_accounted_for(name: str) -> None:
    """A new field of `transformers` fails here until the table or this list knows it."""
    import transformers

    harmless = {
        "transformers_version", "architectures", "output_hidden_states", "return_dict", "dtype",
        "chunk_size_feed_forward", "is_encoder_decoder", "id2label", "label2id", "problem_type",
        "initializer_range", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id",
        "_name_or_path", "pretraining_tp", "reorder_and_upcast_attn", "model_type",
        "output_attentions",
        # Of training alone, or of other heads.
        "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type",
        "summary_use_proj", "summary_activation", "summary_proj_to_labels",
        "summary_first_dropout",
        "hidden_dropout", "classifier_dropout",
        # Written, and never read; or read where another key is missing.
        "_sliding_window_pattern", "is_decoder", "no_rope_layer_interval",
    }  # fmt: skip
    layout = LAYOUTS[name]
    settings = {**build(norm="layernorm").spec}
    known = {key for key, _ in layout.keys.values()} | set(layout.constants)
    known |= {key for write, _ in layout.parts for key in write(settings)}
    fields = set(transformers.AutoConfig.for_model(name).to_dict())
    assert fields - known - harmless == set()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_into_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    import transformers

    theirs("qwen3", **QWEN3).to(dtype).save_pretrained(tmp_path)
    # Opened anew: a model that was ever in half precision keeps its rotary frequencies so.
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ours = interchange.load(tmp_path)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert_same_logits(our_logits(ours), their_logits(reference))


def test_a_sharded_model_is_read_whole(tmp_path: Path) -> None:
    original = theirs("gpt2", **GPT2)
    original.save_pretrained(tmp_path, max_shard_size="20kB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_logits(our_logits(interchange.load(tmp_path)), their_logits(original))
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(ConfigError, match=r"model-00002-of-.*: no such file here"):
        interchange.load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}')
    with pytest.raises(ConfigError, match=r"\.\./b: no such file here"):
        interchange.load(tmp_path)


def test_older_files_are_read(tmp_path: Path) -> None:
    original = theirs("llama", **LLAMA, rope_parameters=ROPE, tie_word_embeddings=True)
    original.save_pretrained(tmp_path)

    def older(config: dict[str, Any]) -> None:
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["rope_scaling"] = None

    edit(tmp_path, older)
    stored = load_file(tmp_path / "model.safetensors")
    stored["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    save_file(stored, tmp_path / "model.safetensors")
    assert_same_logits(our_logits(interchange.load(tmp_path)), their_logits(original))


def test_a_key_that_says_nothing_of_the_scaling_is_passed_over(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 3.0, "finetuned": True,
            "original_max_position_embeddings": 8}  # fmt: skip
    original = theirs("llama", **LLAMA, rope_parameters=yarn)
    original.save_pretrained(tmp_path)
    assert '"finetuned": true' in (tmp_path / "config.json").read_text()
    assert_same_logits(our_logits(interchange.load(tmp_path)), their_logits(original))


def test_a_gpt2_stored_without_its_head_and_with_its_masks_is_read(tmp_path: Path) -> None:
    original = theirs("gpt2", **GPT2)
    original.transformer.save_pretrained(tmp_path)
    edit(tmp_path, lambda config: config.pop("tie_word_embeddings", None))
    stored = load_file(tmp_path / "model.safetensors")
    assert "wte.weight" in stored
    stored |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(stored, tmp_path / "model.safetensors")
    assert_same_logits(our_logits(interchange.load(tmp_path)), their_logits(original))


# ours → transformers


GPT2_LIKE = {
    "positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh", "bias": True, "qk_norm": False,
}  # fmt: skip
GEMMA3_LIKE = {
    "mlp": "geglu_tanh", "norm_unit_offset": True, "norm_placement": "both",
    "embed_scale": 32**0.5, "window": 5, "full_layers": [2], "window_rope_theta": 10_000.0,
    "attention_scale": 0.125,
}  # fmt: skip
GEMMA2_LIKE = {**GEMMA3_LIKE, "qk_norm": False, "full_layers": [1, 3], "window_rope_theta": None}
NEOX_LIKE = {"qk_norm": False, "norm": "layernorm", "bias": True, "mlp": "gelu", "tied": False}
LLAMA3_SCALING = {
    "type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_context": 8,
}  # fmt: skip
OURS: list[tuple[str, dict[str, Any]]] = [
    ("qwen3", {}),
    ("qwen3", {"num_kv_heads": 2, "head_dim": 10, "tied": False, "rope_theta": 1e6}),
    ("qwen3", {"window": 5, "norm_eps": 1e-3, "mlp_dim": 40, "dropout": 0.1, "init": "zero"}),
    ("llama", {"qk_norm": False}),
    ("llama", {"qk_norm": False, "bias": True, "num_kv_heads": 1, "head_dim": 6, "tied": False}),
    ("llama", {"qk_norm": False, "rope_scaling": LLAMA3_SCALING}),
    ("llama", {"qk_norm": False, "qkv_bias": True, "output_bias": True}),
    ("qwen3", {"qkv_bias": True, "output_bias": True, "window": 5, "full_layers": [0]}),
    ("gemma3_text", {**GEMMA3_LIKE, "num_layers": 3}),
    ("smollm3", {"qk_norm": False, "bias": True, "window": 5}),
    ("smollm3", {"qk_norm": False, "nope_layers": [1, 3]}),
    ("olmo2", {"norm_placement": "post", "qk_norm_width": "whole"}),
    ("granite", {"qk_norm": False, "residual_scale": 0.3, "logit_divisor": 4.0}),
    ("phi3", {"qk_norm": False, "rope_fraction": 0.5}),
    ("gemma2", {**GEMMA2_LIKE, "attention_softcap": 2.0, "logit_softcap": 5.0}),
    ("gpt_neox", {**NEOX_LIKE, "parallel": True, "rope_fraction": 0.5}),
    ("mistral", {"qk_norm": False, "window": 5}),
    ("mistral", {"qk_norm": False, "num_heads": 3, "head_dim": 8}),
    ("qwen2", {"qk_norm": False, "qkv_bias": True, "window": 7}),
    ("gpt2", {**GPT2_LIKE, "dropout": 0.1}),
    ("gpt2", {**GPT2_LIKE, "tied": False, "mlp_dim": 50}),
    ("gpt2", {**GPT2_LIKE, "mlp": "gelu"}),
    ("gpt2", {**GPT2_LIKE, "mlp": "relu2"}),
]


@pytest.mark.parametrize(("name", "settings"), OURS)
def test_transformers_opens_ours_as_it_is(
    name: str, settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = build(**settings)
    interchange.save(ours, tmp_path)
    opened = open_theirs(tmp_path)
    assert caplog.text == ""
    assert opened.config.model_type == name
    assert opened.config.dtype == opened.dtype == torch.float32
    assert opened.config.foundling == ours.spec
    ids = (opened.config.bos_token_id, opened.config.eos_token_id, opened.config.pad_token_id)
    assert ids == (None, None, None)
    assert_same_logits(our_logits(ours), their_logits(opened))


def test_token_ids_are_written_where_they_are_given(tmp_path: Path) -> None:
    interchange.save(build(), tmp_path, {"eos_token_id": 2})
    config = open_theirs(tmp_path).config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, 2, None)


def test_transformers_can_save_what_it_opened_and_we_read_it(tmp_path: Path) -> None:
    ours = build(dropout=0.1)
    interchange.save(ours, tmp_path / "ours")
    opened = open_theirs(tmp_path / "ours")
    opened.save_pretrained(tmp_path / "theirs")
    again = interchange.load(tmp_path / "theirs")
    assert again.spec == ours.spec
    assert torch.equal(our_logits(again), our_logits(ours))
    opened.resize_token_embeddings(80)
    opened.save_pretrained(tmp_path / "wider")
    with pytest.raises(ConfigError, match='"foundling" says another vocab_size than'):
        interchange.load(tmp_path / "wider")
    edit(tmp_path / "wider", lambda config: config.pop("foundling"))
    assert interchange.load(tmp_path / "wider").vocab_size == 80


# ours → ours


OWN: list[dict[str, Any]] = [
    *({"rung": rung, "tied": tied} for rung in models.RUNGS for tied in (False, True)),
    {"rung": "finite_lag", "lag": 1, "mlp_dim": 7},
    {"mlp": "relu2"},
    {"positions": "sinusoidal"},
    {"positions": "none", "norm": "none", "residual": False, "mlp": "gelu"},
    {"positions": "learned", "norm": "layernorm"},
    {"norm": "layernorm", "bias": True},
    {"bias": True},
    {"qkv_bias": True},
    {"qk_norm": False, "bias": True, "qkv_bias": False},
    {**GPT2_LIKE, "num_kv_heads": 2},
    {**GPT2_LIKE, "head_dim": 10},
    {**GPT2_LIKE, "bias": False},
    {**GPT2_LIKE, "window": 4},
    {**GPT2_LIKE, "qk_norm": True},
    {"qk_norm": False, "bias": True, "num_heads": 3, "head_dim": 8},
]


@pytest.mark.parametrize("settings", [*OWN, *(settings for _, settings in OURS)])
def test_a_round_trip_changes_no_bit_and_no_setting(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    ours = build(**settings)
    interchange.save(ours, tmp_path)
    again = interchange.load(tmp_path)
    assert again.spec == ours.spec
    assert (again.unembed.weight is again.embed.weight) is ours.tied
    state = again.state_dict()
    assert state.keys() == ours.state_dict().keys()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, state[name]), name
    config = json.loads((tmp_path / "config.json").read_text())
    if settings in OWN and settings.get("rung", "transformer") != "transformer":
        assert config["model_type"] == "foundling"


@pytest.mark.parametrize("settings", OWN[10:])
def test_what_no_architecture_expresses_keeps_our_names(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    ours = build(**settings)
    interchange.save(ours, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"model_type": "foundling", "foundling": ours.spec}
    assert load_file(tmp_path / "model.safetensors").keys() == {
        name for name in ours.state_dict() if not (ours.tied and name == "unembed.weight")
    }


def test_weights_load_into_a_model_of_the_same_shape(tmp_path: Path) -> None:
    ours = build()
    interchange.save(ours, tmp_path)
    other = models.build({"dim": 32}, vocab_size=VOCAB, context=CONTEXT)
    interchange.load_weights(other, tmp_path)
    assert torch.equal(our_logits(other), our_logits(ours))
    lower = models.build({"rung": "bag_of_words", "dim": 32}, vocab_size=VOCAB, context=CONTEXT)
    with pytest.raises(ConfigError, match="its weights lack context"):
        interchange.load_weights(lower, tmp_path)
