"""Models go out to GGUF and come back; `transformers`' own reader agrees."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, decoders, models, normalizers, processors
from tokenizers import Tokenizer as Backend
from torch import Tensor

from foundling import cli
from foundling.base.config import ConfigError
from foundling.models import gguf_files, interchange, layouts, rebuild
from foundling.models.gguf_files import GgufFile
from foundling.runs.gguf import export_gguf, import_gguf
from foundling.runs.run import load_model
from foundling.text.gguf_vocabulary import without_generation
from foundling.text.tokenizer import Tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "In 2024 there were 1,234 of  them.\n\n\tAnd more.",
    "Grüße aus Köln – 日本語 🦊",
] * 3
NASTY = [
    "", " ", "  two  spaces  ", "\n\n\t x\r\n", "don't DON'T 12345", "日本語 🦊 é e\u0301",
    "<|user|>", "a" * 40, "\x00\x7f\u200b", "▁ ▁▁ _", "<s></s><0x41>",
]  # fmt: skip
SMALL = {
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": True},
    "llama untied with biases": {
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    },
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "rms_norm_eps": 1e-6, "hidden_size": 48},
    "llama scaled": {"model_type": "llama", "rope_parameters": LLAMA3},
    "qwen2 scaled": {
        "model_type": "qwen2",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 2.0,
            "original_max_position_embeddings": 32,
        },
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "sliding_window": 8,
        "num_hidden_layers": 7,
        "query_pre_attn_scalar": 16,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "gemma3 of other layers": {
        "model_type": "gemma3_text",
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "gemma2": {
        "model_type": "gemma2",
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "smollm3": {
        "model_type": "smollm3",
        "num_hidden_layers": 4,
        "no_rope_layers": [1, 1, 1, 0],
    },
    "olmo2": {"model_type": "olmo2"},
    "granite": {
        "model_type": "granite",
        "attention_multiplier": 0.2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
    "phi3": {
        "model_type": "phi3",
        "sliding_window": None,
        "max_position_embeddings": 64,
        "original_max_position_embeddings": 32,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 2.0, 3.0, 4.0],
        },
    },
    "gpt_neox": {"model_type": "gpt_neox"},
    "gpt2": {
        "model_type": "gpt2",
        "n_positions": 64,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": None,
    },
}
UP = "model.layers.0.mlp.up_proj.weight"


def make(folder: Path, config: dict[str, Any], tokenizer: Tokenizer | None = None) -> Path:
    """A model folder with random weights, none of them zero or one."""
    config = {**SMALL, **config}
    tokenizer = tokenizer or Tokenizer.train_bytes(TEXTS, 290)
    torch.manual_seed(1)
    model = rebuild(layouts.read_config(config["model_type"], config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    interchange.save(model, folder, tokenizer.mark_ids())
    tokenizer.save(folder)
    return folder


def sentencepiece() -> Tokenizer:
    """As Llama 2's: bytes to fall back on, a space before the text, merges by score."""
    marks = ["<unk>", "<s>", "</s>"]
    pieces = ["▁t", "he", "▁the", "in", "▁a", "er", "▁▁"]
    letters = sorted(set("▁abcdefghijklmnopqrstuvwxyz.,T"))
    names = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("▁", "a"), ("e", "r"), ("▁", "▁")]
    vocab = {name: id for id, name in enumerate(names)}
    model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(name, special=True) for name in marks])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return Tokenizer(backend, "<s>", "</s>", None)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": lambda: Tokenizer.train_bytes(TEXTS, 290),
    "characters": lambda: Tokenizer.characters([*TEXTS, " ~\n"]),
    "sentencepiece": sentencepiece,
}


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "model", CONFIGS[name])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    before, after = tensors(folder), tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    for tensor in before:
        # Gemma's norms are stored as 1 + w, and lose w's last bits.
        lost = 2**-22 if "gemma" in name and tensor.endswith("norm.weight") else 0
        assert (before[tensor] - after[tensor]).abs().max() <= lost, tensor
    ours, _ = load_model(folder)
    theirs, _ = load_model(tmp_path / "back")
    tokens = torch.arange(0, 40).view(2, 20)
    same = {"atol": 1e-5 if "gemma" in name else 0, "rtol": 0}
    torch.testing.assert_close(ours.logits(ours(tokens)), theirs.logits(theirs(tokens)), **same)
    if name not in ("mistral", "phi3"):  # a Llama now; factors of fp32
        before, after = (json.loads((path / "config.json").read_text())
                         for path in (folder, tmp_path / "back"))  # fmt: skip
        assert {key: before[key] for key in after} == after


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_the_same_model(tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    # It reads no head dimension but the usual one, and no biases of Llama.
    usual = {"qwen3": {"head_dim": 128}, "gemma3": {"head_dim": 256, "query_pre_attn_scalar": 256}}
    folder = make(tmp_path / "model", {**CONFIGS[name], **usual.get(name, {})})
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    peer = AutoModelForCausalLM.from_pretrained(
        str(tmp_path), gguf_file="model.gguf", dtype=torch.float32
    )
    ours, _ = load_model(folder)
    tokens = torch.arange(0, 40).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.eval().logits(ours(tokens)), peer(tokens).logits, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(("kind", "error"), [("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 8e-3),
                                             ("q4_0", 0.14)])  # fmt: skip
def test_fewer_bits_are_as_near_as_they_can_be(tmp_path: Path, kind: str, error: float) -> None:
    """`error`: of the largest value of a block of 32."""
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", kind)
    import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    after = tensors(tmp_path / "back")
    for name, before in tensors(folder).items():
        if before.ndim == 1:
            assert torch.equal(before, after[name])
        else:
            blocks = (before - after[name]).abs().view(-1, 32).amax(1)
            assert (blocks <= error * before.view(-1, 32).abs().amax(1)).all(), name
            assert not torch.equal(before, after[name])


def test_rows_that_fill_no_block_are_halves(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", {**CONFIGS["qwen3"], "hidden_size": 48})
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    kinds = {
        name: t.tensor_type.name for name, t in GgufFile(tmp_path / "model.gguf").tensors.items()
    }
    assert kinds["blk.0.attn_q.weight"] == "F16"  # rows of 48
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # rows of 96
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_four_bits_leave_eight_to_the_embedding(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama untied with biases"])
    export_gguf(folder, tmp_path / "model.gguf", "q4_0")
    kinds = {
        name: t.tensor_type.name for name, t in GgufFile(tmp_path / "model.gguf").tensors.items()
    }
    assert kinds["token_embd.weight"] == kinds["output.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_up.weight"] == "Q4_0"


def test_weights_may_come_back_in_fewer_bits(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    import_gguf(tmp_path / "model.gguf", tmp_path / "back", "bf16")
    before = tensors(folder)
    for name, after in tensors(tmp_path / "back").items():
        assert after.dtype == torch.bfloat16
        assert torch.equal(after, before[name].bfloat16())
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == "bfloat16"


# ---------------------------------------------------------------------- words and templates


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_have_the_same_tokens(tmp_path: Path, kind: str) -> None:
    before = TOKENIZERS[kind]()
    folder = make(tmp_path / "model", {**CONFIGS["llama"], "vocab_size": 320}, before)
    export_gguf(folder, tmp_path / "model.gguf", "f16")
    import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    after = Tokenizer.load(tmp_path / "back")
    assert after.kind == before.kind
    before = Tokenizer.load(folder)
    known = [text for text in [*NASTY, *TEXTS] if before.knows(text)]
    assert len(known) > 3
    for text in known:
        assert after.encode(text) == before.encode(text), text
        assert after.decode(after.encode(text)) == before.decode(before.encode(text))
    assert after.begin_ids == before.begin_ids
    assert after.stop_ids == before.stop_ids
    assert after.special_ids == before.special_ids
    assert after.vocab_size == before.vocab_size < load_model(tmp_path / "back")[0].vocab_size


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_any_text_has_the_same_tokens(
    tmp_path_factory: pytest.TempPathFactory, kind: str, text: str
) -> None:
    if kind not in KEPT:
        folder = tmp_path_factory.mktemp("texts")
        make(folder / "model", {**CONFIGS["llama"], "vocab_size": 320}, TOKENIZERS[kind]())
        export_gguf(folder / "model", folder / "model.gguf", "f16")
        import_gguf(folder / "model.gguf", folder / "back")
        KEPT[kind] = Tokenizer.load(folder / "model"), Tokenizer.load(folder / "back")
    before, after = KEPT[kind]
    assert after.encode(text) == before.encode(text)


KEPT: dict[str, tuple[Tokenizer, Tokenizer]] = {}


def test_what_llama_cpp_must_know_of_our_own_tokenizer_is_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    tokenizer = Tokenizer.load(folder)
    export_gguf(folder, tmp_path / "model.gguf", "f32", name="Village", licence="mit")
    fields = GgufFile(tmp_path / "model.gguf").fields
    assert fields["general.name"] == "Village"
    assert fields["general.license"] == "mit"
    assert fields["tokenizer.ggml.pre"] == "qwen2"
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert fields["tokenizer.ggml.eos_token_id"] == tokenizer.special("<|end_of_text|>")
    assert fields["tokenizer.ggml.eot_token_id"] == tokenizer.special("<|end_of_turn|>")
    assert fields["tokenizer.ggml.tokens"][-1] == "[PAD299]"
    assert fields["tokenizer.ggml.token_type"][-1] == gguf.TokenType.UNUSED
    assert fields["tokenizer.ggml.token_type"][tokenizer.special("<|user|>")] == 3
    assert "generation" not in fields["tokenizer.chat_template"].replace(
        "add_generation_prompt", ""
    )


def test_a_template_without_tags_writes_the_same() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    source = (
        "{% for m in messages %}\n  {%- if m['role'] == 'user' %}U {{ m['content'] }}\n"
        "  {%- else -%}\n{%- generation -%} A {{ m['content'] }} {% endgeneration %}\n"
        "  {%+ generation %}x{% endgeneration -%}  {%- endif %}\n{% endfor %}."
    )
    plain = without_generation(source)
    assert "generation" not in plain
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    written = [
        render_jinja_template(conversations=[messages], chat_template=template)[0][0]
        for template in (source, plain)
    ]
    assert written[0] == written[1]


def test_what_llama_cpp_does_not_know_of_added_tokens_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = None
    for token in content["added_tokens"]:
        token["normalized"] = True  # of a text that is not normalised
    content["added_tokens"][0]["rstrip"] = content["added_tokens"][1]["rstrip"] = True
    content["added_tokens"][1]["single_word"] = True
    (folder / "tokenizer.json").write_text(json.dumps(content))
    export_gguf(folder, tmp_path / "model.gguf", "f16")
    first, second = (token["content"] for token in content["added_tokens"][:2])
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == ["rstrip", "single_word"]
    assert f"around {first} (2 in all)" in said[0]
    assert f"around {second} (1 in all)" in said[1]


def test_a_splitting_into_words_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[a-z]+"
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"knows no splitting into words .*split \[a-z\]\+"):
        export_gguf(folder, tmp_path / "model.gguf", "f32")
    assert not (tmp_path / "model.gguf").exists()


# ---------------------------------------------------------------------- what cannot be


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


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_metadata_that_lacks_or_twists_a_key_is_never_a_traceback(
    tmp_path: Path, kind: str
) -> None:
    small = {"vocab_size": 320, "num_hidden_layers": 1, "hidden_size": 16}
    folder = make(tmp_path / "model", {**CONFIGS["llama"], **small}, TOKENIZERS[kind]())
    export_gguf(folder, tmp_path / "model.gguf", "f16")
    given, accepted = GgufFile(tmp_path / "model.gguf").fields, 0
    for key, value in given.items():
        if key.startswith(("GGUF.", "general.")):
            continue
        for number, other in enumerate((None, 7, value[:-1] if isinstance(value, list) else "x")):
            rewrite(tmp_path / "model.gguf", tmp_path / "other.gguf", {key: other})
            with suppress(ConfigError):
                import_gguf(tmp_path / "other.gguf", tmp_path / f"out {key} {number}")
                accepted += 1
    assert 0 < accepted < 60


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


def test_the_verbs_go_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = make(tmp_path / "model", CONFIGS["qwen3"]), tmp_path / "model.gguf"
    assert call("export", folder, "--type", "f32", "--out", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_bytes"] == file.stat().st_size
    assert call("import", file, "--out", tmp_path / "back", "--json") == 0
    assert json.loads(capsys.readouterr().out)["vocab_size"] == 300
    assert call("export", folder, "--type", "q3", "--out", tmp_path / "other.gguf") == 2
    assert "--type q3: no such type (f32, f16, bf16, q8_0, q4_0)" in capsys.readouterr().err


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


def rewrite(file: Path, out: Path, change: dict[str, Any]) -> None:
    """The same file with other metadata; None: without it."""
    given = GgufFile(file)
    fields = {**given.fields, **change}
    writer = gguf.GGUFWriter(out, fields["general.architecture"])
    for key, value in fields.items():
        if value is not None and not key.startswith(("GGUF.", "general.architecture")):
            gguf_files._add(writer, key, value)
    for tensor in given.tensors.values():
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
