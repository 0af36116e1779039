"""Tokenizers and chat templates in GGUF files."""

import json
from pathlib import Path

import gguf
import pytest
from gguf_models import CONFIGS, TEXTS, TOKENIZERS, make
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.base.config import ConfigError
from foundling.models.gguf_files import GgufFile
from foundling.runs.gguf import export_gguf, import_gguf
from foundling.runs.run import load_model
from foundling.text.gguf_vocabulary import without_generation
from foundling.text.tokenizer import Tokenizer

NASTY = [
    "", " ", "  two  spaces  ", "\n\n\t x\r\n", "don't DON'T 12345", "日本語 🦊 é e\u0301",
    "<|user|>", "a" * 40, "\x00\x7f\u200b", "▁ ▁▁ _", "<s></s><0x41>",
]  # fmt: skip


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


@pytest.fixture(scope="module", params=["bytes", "sentencepiece"])
def there_and_back(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, Tokenizer]:
    folder = tmp_path_factory.mktemp("texts")
    made = TOKENIZERS[request.param]()
    make(folder / "model", {**CONFIGS["llama"], "vocab_size": 320}, made)
    export_gguf(folder / "model", folder / "model.gguf", "f16")
    import_gguf(folder / "model.gguf", folder / "back")
    return Tokenizer.load(folder / "model"), Tokenizer.load(folder / "back")


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_has_the_same_tokens(
    there_and_back: tuple[Tokenizer, Tokenizer], text: str
) -> None:
    before, after = there_and_back
    assert after.encode(text) == before.encode(text)


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
