"""Texts by a table of words: the tokens that the library gives for the whole, whatever the text."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from foundling.text import word_table
from foundling.text.tokenizer import Tokenizer
from foundling.text.vocabulary import Vocabulary
from foundling.text.word_table import WordTable

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "The cat's hat, it was said, wasn't there.\n\nHe'd gone — away!\n",
    "def f(x):\n    return x + 12345  # naïve\n\n\nfor i in [1, 2]:\n\tprint(i)\n",
    "“Oh,” she said;  “never mind...” 東京 は 🦉 Été\r\n<b> </b> a.b c,d (e)\n",
] * 20


def trained(split: pre_tokenizers.PreTokenizer | None, normalizer: object = None) -> Backend:
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=split is None, fuse_unk=True))
    if normalizer is not None:
        backend.normalizer = normalizer
    marks = ["</s>", "<unk>"]
    if split is None:  # as sentencepiece: merges of words, which it is then not split into
        backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        marks += [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        backend.pre_tokenizer = split
    alphabet = [] if split is None else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    if split is None:
        state = json.loads(backend.to_str())
        state["pre_tokenizer"] = None
        backend = Backend.from_str(json.dumps(state))
    backend.decoder = decoders.ByteLevel()
    return backend


def added(backend: Backend, *contents: str) -> Backend:
    backend.add_tokens(list(contents))
    return backend


def split_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level]
    return pre_tokenizers.Sequence(steps)


ADDED = ("<sep>", "The", "  ", "\n\n", " s", "->", "é", "12345")
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
KINDS: dict[str, Callable[[], Vocabulary]] = {
    "our own": lambda: Tokenizer.train_bytes(CORPUS, 500),
    "GPT-2": lambda: Vocabulary(trained(GPT2)),
    "SmolLM2": lambda: Vocabulary(trained(DIGITS)),
    "Llama 3": lambda: Vocabulary(trained(split_by(LLAMA3))),
    "Qwen 3": lambda: Vocabulary(trained(split_by(LLAMA3), normalizers.NFC())),
    "Gemma 3": lambda: Vocabulary(trained(None, normalizers.Replace(" ", "▁"))),
    "GPT-2, added": lambda: Vocabulary(added(trained(GPT2), *ADDED, "\n<sep>")),
    "Llama 3, added": lambda: Vocabulary(added(trained(split_by(LLAMA3)), *ADDED)),
    "Qwen 3, added": lambda: Vocabulary(
        added(trained(split_by(LLAMA3), normalizers.NFC()), *ADDED)
    ),
}
BITS = st.sampled_from(
    [
        *(" ", " ", " ", "\n", "\n", "\t", "\r", "\r\n", "\u3000", "\x1c", "\x85", "\0", "▁"),
        *("word", "The", "cat", "A", "s", "ll", "don't", "'s", "'", "’", "12345", "3", "_"),
        *(",", ".", "...", "!", "”", "“", "—", "(", ">", "</"),
        *("COVID-19", "user:", "\n<sep>", "<sep>", "a\u037e", "a;", "->"),
        *("é", "e\u0301", "\u0301", "東京", "🦉", "ﬁ"),
    ]
)
TEXTS = st.lists(BITS, max_size=30).map("".join)


@pytest.fixture(scope="module")
def vocabularies() -> dict[str, Vocabulary]:
    return {name: make() for name, make in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=150)
@given(TEXTS, TEXTS)
def test_the_tokens_are_those_of_the_whole(
    vocabularies: dict[str, Vocabulary], kind: str, text: str, more: str
) -> None:
    vocabulary = vocabularies[kind]
    cuts = vocabulary.word_cuts
    assert cuts is not None
    table = WordTable(vocabulary, "<u2")
    expected = np.asarray(vocabulary.encode(text), "<u2").tobytes()
    assert table.encode(text) == expected
    assert table.encode(text) == expected  # from the table
    words = cuts.words(text)
    assert words is None or "".join(words) == text
    at = cuts.first(text, more)
    if text and at is not None:
        cut = vocabulary.encode(text + more[:at]) + vocabulary.encode(more[at:])
        assert cut == vocabulary.encode(text + more)


def test_a_full_table_begins_anew(
    vocabularies: dict[str, Vocabulary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_table, "MOST_BYTES", 5000)
    vocabulary = vocabularies["our own"]
    table = WordTable(vocabulary, "<u2")
    for text in ("the cat sat on", " mats of ten kinds, red", " and blue; green. the cat"):
        assert table.encode(text) == np.asarray(vocabulary.encode(text), "<u2").tobytes()
        assert len(table._table) < 40


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always",
                           "split": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                           "use_regex": True}},
    ],
)  # fmt: skip
def test_a_tokenizer_of_another_kind_is_not_cut(change: dict[str, object]) -> None:
    state = json.loads(trained(GPT2).to_str())
    vocabulary = Vocabulary(Backend.from_str(json.dumps({**state, **change})))
    assert vocabulary.word_cuts is None
    text = "The cat's hat."
    encoded = WordTable(vocabulary, "<u2").encode(text)
    assert encoded == np.asarray(vocabulary.encode(text), "<u2").tobytes()


@pytest.mark.parametrize(
    ("split", "content", "text"),
    [
        (GPT2, "COVID-19", "Of COVID-19 and"),
        (GPT2, "user:", "The user: The cat"),
        (split_by(LLAMA3), "COVID-19", "Of COVID-19 and"),
        (split_by(LLAMA3), "\n<sep>", "The cat\n<sep> sat"),
        (split_by(LLAMA3), "a b", "The a b c"),
        (split_by(LLAMA3), "a\u037e", "The a; c"),  # the normal form of U+037E is a semicolon
    ],
)
def test_a_tokenizer_with_an_added_token_that_cuts_would_break_is_not_cut(
    split: pre_tokenizers.PreTokenizer, content: str, text: str
) -> None:
    vocabulary = Vocabulary(added(trained(split, normalizers.NFC()), content))
    ids = vocabulary.encode(text)
    assert vocabulary.vocab_size - 1 in ids
    assert vocabulary.word_cuts is None
    assert WordTable(vocabulary, "<u2").encode(text) == np.asarray(ids, "<u2").tobytes()


def test_an_expression_that_is_not_known_is_not_cut() -> None:
    for pattern in (
        *(r"\w+|\s+", LLAMA3.replace(r"\s*[\r\n]+|", ""), LLAMA3 + r"|a b"),
        *(r"\s*[\r\n]+|\s+(?!\S)", LLAMA3.replace(r"\p{N}{1,3}|", "")),
        *(LLAMA3.removesuffix(r"|\s+"), LLAMA3.replace(r"\s+(?!\S)|", "")),
    ):
        assert Vocabulary(trained(split_by(pattern))).word_cuts is None


def test_words_without_a_splitter_of_bytes_are_not_cut() -> None:
    state = json.loads(trained(GPT2).to_str())
    for steps in ([], [{"type": "Digits", "individual_digits": True}]):
        splitter = {"type": "Sequence", "pretokenizers": steps}
        changed = Backend.from_str(json.dumps({**state, "pre_tokenizer": splitter}))
        assert Vocabulary(changed).word_cuts is None


@pytest.mark.real
@pytest.mark.parametrize("name", ["gemma3", "llama3_1", "qwen3"])
def test_real_tokenizers_keep_their_tokens(
    real_tokenizer: Callable[[str], Path], name: str
) -> None:
    tokenizer = Tokenizer.load(real_tokenizer(name))
    assert tokenizer.word_cuts is not None
    table = WordTable(tokenizer, "<u4")
    for text in CORPUS[:3]:
        assert table.encode(text) == np.asarray(tokenizer.encode(text), "<u4").tobytes()
