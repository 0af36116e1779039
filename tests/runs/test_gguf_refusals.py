"""What no GGUF file can hold, and files that Foundling does not read."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf_models import CONFIGS, TEXTS, TOKENIZERS, call, make, rewrite, tensors
from safetensors.torch import save_file
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.models.gguf_files import GgufFile
from foundling.runs.gguf import export_gguf, import_gguf
from foundling.runs.run import load_model
from foundling.text.tokenizer import Tokenizer

UP = "model.layers.0.mlp.up_proj.weight"


def test_a_broken_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    whole = (tmp_path / "model.gguf").read_bytes()
    broken = tmp_path / "broken.gguf"
    for size in (0, 4, 20, 300, len(whole) // 2, len(whole) - 100):
        broken.write_bytes(whole[:size])
        assert call("import", broken, "--out", tmp_path / "out") == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {broken}: not a whole GGUF file")
        assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "broken.gguf",
        "model",
        "model.gguf",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"general.architecture": "mamba"},
            'general.architecture = "mamba": Foundling has no such',
        ),
        ({"tokenizer.ggml.model": "t5"}, 'tokenizer.ggml.model = "t5": Foundling reads'),
        ({"tokenizer.ggml.pre": "qwen"}, 'Did you mean "qwen2"'),
        ({"tokenizer.ggml.pre": None}, "tokenizer.ggml.pre: missing"),
        ({"llama.block_count": None}, "llama.block_count: missing"),
        ({"llama.block_count": 3}, "block_count = 3, and there are 2 blocks"),
        ({"llama.embedding_length": 32}, "embedding_length = 32: not that of token_embd.weight"),
    ],
)
def test_what_foundling_does_not_know_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    rewrite(tmp_path / "model.gguf", tmp_path / "other.gguf", change)
    with pytest.raises(ConfigError, match=message):
        import_gguf(tmp_path / "other.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("llama", {"attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon: missing"),
        ("llama", {"attention.clamp_kqv": 8.0}, "attention.clamp_kqv = 8.0: Foundling has no"),
        ("llama", {"logit_scale": 2.0}, "logit_scale = 2.0: Foundling has no such setting"),
        ("llama", {"attention.scale": 0.5}, "attention.scale = 0.5: Foundling has no such"),
        ("llama", {"expert_count": 8}, "expert_count = 8: Foundling has no such setting"),
        ("llama", {"attention.sliding_window": 16}, "sliding_window = 16: Foundling has no"),
        ("llama", {"attention.value_length": 8}, "value_length = 8: must be 16"),
        ("llama", {"rope.scaling.type": "su"}, 'rope.scaling.type = "su" with 0 tensors'),
        ("llama", {"rope.scaling.type": "longrope"}, "longrope.* with 0 tensors"),
        ("llama scaled", {"rope.scaling.type": "yarn"}, "yarn.* with 1 tensors"),
        ("qwen2 scaled", {"rope.scaling.attn_factor": 3.0}, "attn_factor = 3.0: Foundling has no"),
        ("qwen2 scaled", {"rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor = 0.5: Found"),
        ("gemma2", {"final_logit_softcapping": None}, "final_logit_softcapping: missing"),
        ("gemma2", {"attn_logit_softcapping": None}, "attn_logit_softcapping: missing"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0: Found"),
        ("granite", {"attention.scale": None}, "attention.scale: missing"),
        ("gpt_neox", {"use_parallel_residual": None}, "use_parallel_residual: missing"),
        ("gpt2", {"rope.freq_base": 100.0}, "rope.freq_base = 100.0: Foundling has no"),
    ],
)
def test_no_setting_of_a_file_is_ignored_or_invented(
    tmp_path: Path, name: str, change: dict[str, Any], said: str
) -> None:
    folder = make(tmp_path / "model", CONFIGS[name])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    prefix = GgufFile(tmp_path / "model.gguf").layout.architecture
    changed = {f"{prefix}.{key}": value for key, value in change.items()}
    rewrite(tmp_path / "model.gguf", tmp_path / "other.gguf", changed)
    with pytest.raises(ConfigError, match=said):
        GgufFile(tmp_path / "other.gguf")


def test_settings_that_change_nothing_are_passed_over(tmp_path: Path) -> None:
    """As llama.cpp's converter and other tools write them."""
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    change = {
        "expert_count": 0,
        "attention.sliding_window": 0,
        "attention.causal": True,
        "rope.scaling.attn_factor": 1.0,
        "rope.scaling.type": "none",
        "rope.scaling.factor": 4.0,
        "tensor_data_layout": "Meta AI original pth",
    }
    changed = {f"llama.{key}": value for key, value in change.items()}
    rewrite(tmp_path / "model.gguf", tmp_path / "other.gguf", changed)
    assert GgufFile(tmp_path / "other.gguf").spec == GgufFile(tmp_path / "model.gguf").spec


def test_the_window_of_phi_3_comes_back(tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4}
    config = {**CONFIGS["phi3"], "rope_parameters": rope, "original_max_position_embeddings": 64}
    folder = make(tmp_path / "model", config)
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    for window in (16, 0):
        change = {"phi3.attention.sliding_window": window}
        rewrite(tmp_path / "model.gguf", tmp_path / "other.gguf", change)
        assert GgufFile(tmp_path / "other.gguf").spec["window"] == (window or None)


def test_softcaps_that_llama_cpp_takes_for_granted_must_be_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", {**CONFIGS["gemma2"], "final_logit_softcapping": None})
    with pytest.raises(ConfigError, match="final_logit_softcapping = null"):
        export_gguf(folder, tmp_path / "model.gguf", "f32")


UNCHECKED = {
    "llama.attention.layer_norm_rms_epsilon 7",
    "llama.attention.value_length None",
    "llama.context_length 7",
    "llama.feed_forward_length None",
    "llama.rope.dimension_count None",
    "llama.rope.freq_base 7",
    "llama.rope.freq_base None",
    *(f"llama.vocab_size {value}" for value in (7, None, "x")),
    "tokenizer.ggml.add_bos_token None",
    "tokenizer.ggml.add_eos_token None",
    "tokenizer.ggml.bos_token_id 7",
    "tokenizer.ggml.bos_token_id None",
    "tokenizer.ggml.eos_token_id 7",
    "tokenizer.ggml.eos_token_id None",
}
"""What may be left out or changed without a refusal: another model, but a whole one."""
UNCHECKED_WORDS = {
    "bytes": {
        "tokenizer.chat_template None",
        "tokenizer.chat_template x",
        "tokenizer.ggml.eot_token_id 7",
        "tokenizer.ggml.eot_token_id None",
        "tokenizer.ggml.merges shorter",
        "tokenizer.ggml.padding_token_id 7",
        "tokenizer.ggml.padding_token_id None",
    },
    "sentencepiece": {
        "tokenizer.ggml.add_space_prefix None",
        *(f"tokenizer.ggml.pre {value}" for value in (7, None, "x")),
        "tokenizer.ggml.unknown_token_id 7",
        "tokenizer.ggml.unknown_token_id None",
    },
}


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_metadata_that_lacks_or_twists_a_key_is_never_a_traceback(
    tmp_path: Path, kind: str
) -> None:
    small = {"vocab_size": 320, "num_hidden_layers": 1, "hidden_size": 16}
    folder = make(tmp_path / "model", {**CONFIGS["llama"], **small}, TOKENIZERS[kind]())
    export_gguf(folder, tmp_path / "model.gguf", "f16")
    given, accepted = GgufFile(tmp_path / "model.gguf").fields, set()
    for key, value in given.items():
        if key.startswith(("GGUF.", "general.")):
            continue
        for other in (None, 7, value[:-1] if isinstance(value, list) else "x"):
            rewrite(tmp_path / "model.gguf", tmp_path / "other.gguf", {key: other})
            change = f"{key} {'shorter' if isinstance(other, list) else other}"
            with suppress(ConfigError):
                import_gguf(tmp_path / "other.gguf", tmp_path / f"out {change}")
                accepted.add(change)
    assert accepted == UNCHECKED | UNCHECKED_WORDS[kind]


def test_weights_of_an_unknown_type_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    content = (tmp_path / "model.gguf").read_bytes()
    at = content.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight") + 4 + 16
    assert content[at] == gguf.GGMLQuantizationType.Q8_0
    for kind, said in ((24, "is I8, which cannot be read"), (99, "not a whole GGUF file .*99")):
        (tmp_path / "odd.gguf").write_bytes(content[:at] + bytes([kind]) + content[at + 1 :])
        with pytest.raises(ConfigError, match=said):
            import_gguf(tmp_path / "odd.gguf", tmp_path / "out")


def test_a_folder_that_is_older_than_a_setting_is_written(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["qwen3"])
    config = json.loads((folder / "config.json").read_text())
    for setting in ("rope_scaling", "embed_scale", "full_layers"):
        del config["foundling"][setting]
    (folder / "config.json").write_text(json.dumps(config))
    export_gguf(folder, tmp_path / "model.gguf", "f32")


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    (tmp_path / "model.gguf").write_bytes(b"mine")
    assert call("export", folder, "--out", tmp_path / "model.gguf") == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'model.gguf'}: exists already; give another --out.\n"
    )
    assert (tmp_path / "model.gguf").read_bytes() == b"mine"
    export_gguf(folder, tmp_path / "other.gguf", "f32")
    assert call("import", tmp_path / "other.gguf", "--out", folder) == 2
    assert "exists already" in capsys.readouterr().err


def test_weights_that_f16_cannot_hold_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    model, tokenizer = load_model(folder)
    with torch.no_grad():
        model.get_parameter("context.blocks.1.mlp.up.weight")[3, 3] = 70_000.0
    interchange.save(model, folder, tokenizer.mark_ids())
    with pytest.raises(ConfigError, match=r"blk.1.ffn_up.weight: .* f16 ends at 65,504: use bf16"):
        export_gguf(folder, tmp_path / "model.gguf", "f16")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    export_gguf(folder, tmp_path / "model.gguf", "bf16")


def test_a_window_bounds_the_context(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make(tmp_path / "model", {**CONFIGS["mistral"], "sliding_window": 24})
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    assert GgufFile(tmp_path / "model.gguf").fields["llama.context_length"] == 24
    assert "context length 24 instead of 64" in caplog.text


def test_weights_that_halves_cannot_hold_are_not_imported(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    weights = tensors(folder)
    weights[UP][3, 3] = 70_000.0
    save_file(weights, folder / "model.safetensors")
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    with pytest.raises(ConfigError, match=r"ffn_up.weight: .* as float16; f16 ends at 65,504"):
        import_gguf(tmp_path / "model.gguf", tmp_path / "back", "fp16")
    assert not (tmp_path / "back").exists()
    import_gguf(tmp_path / "model.gguf", tmp_path / "back", "bf16")


def test_a_file_takes_the_place_of_an_empty_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    (tmp_path / "model.gguf").mkdir()
    export_gguf(folder, tmp_path / "model.gguf", "f16")
    assert (tmp_path / "model.gguf").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lm_head.weight": torch.ones(300, 64)}, "have also lm_head.weight"),
        ({"model.layers.0.self_attn.extra.weight": torch.ones(3)}, "have also .*extra"),
        ({UP: torch.ones(90, 64)}, r"up_proj.weight is \[90, 64\], not \[96, 64\]"),
        ({UP: torch.ones(96, 64, dtype=torch.int8)}, "up_proj.weight is I8; save it as one of"),
    ],
)
def test_weights_that_no_verb_loads_are_not_written(
    tmp_path: Path, change: dict[str, Tensor], said: str
) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    save_file(tensors(folder) | change, folder / "model.safetensors")
    for attempt in (
        lambda: interchange.load(folder),
        lambda: export_gguf(folder, tmp_path / "model.gguf", "f32"),
    ):
        with pytest.raises(ConfigError, match=said):
            attempt()


def test_a_name_that_llama_cpp_cannot_load_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["phi3"])
    with pytest.raises(ConfigError, match=r'--name "My Phi-3": .* looks for </s>'):
        export_gguf(folder, tmp_path / "model.gguf", "f32", name="My Phi-3")


def test_a_rung_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from foundling import models as rungs

    tokenizer = Tokenizer.train_bytes(TEXTS, 290)
    model = rungs.build({"rung": "bag_of_words", "dim": 8}, vocab_size=290, context=16)
    interchange.save(model, tmp_path / "model", tokenizer.mark_ids())
    tokenizer.save(tmp_path / "model")
    assert call("export", tmp_path / "model", "--out", tmp_path / "x.gguf") == 2
    assert "cannot be written to a GGUF file" in capsys.readouterr().err
