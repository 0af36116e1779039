"""Long documents in pieces: the tokens of the whole, whatever the tokenizer."""

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from foundling.data import documents
from foundling.data.prepare import prepare
from foundling.data.store import TokenStore
from foundling.text.tokenizer import Tokenizer

WORDS = [
    "the",
    "cat",
    "sat",
    "naïve",
    "don't",
    "1984",
    "12345678",
    "東京",
    "🦉",
    "e.g.",
    "ﬁne",
    "Été",
]
GAPS = [" "] * 12 + [
    "\u3000",
    "\n",
    "\n\n",
    " \n",
    "  ",
    "   ",
    "\r\n",
    "\t",
    ", ",
    ". ",
    ".\n\n",
    "-",
]
MARKS = ["<unk>", "</s>"]


def text_of(seed: int, gaps: list[str], num_words: int) -> str:
    chance = random.Random(seed)
    return "".join(chance.choice(WORDS) + chance.choice(gaps) for _ in range(num_words)) + "end"


def bpe(change: Callable[[Backend], object]) -> Backend:
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True))
    change(backend)
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[*MARKS, *byte_tokens],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator([text_of(n, GAPS, 300) for n in range(9)], trainer)
    return backend


def metaspace(scheme: str) -> Backend:
    def change(backend: Backend) -> None:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        backend.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)]
        )

    return bpe(change)


def byte_level(*, add_prefix_space: bool) -> Backend:
    def change(backend: Backend) -> None:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
        backend.decoder = decoders.ByteLevel()

    return bpe(change)


def llama2() -> Backend:
    """No pre-tokenizer: one word that begins with a space of the tokenizer's own."""
    backend = metaspace("always")  # trained on words, so that no merge crosses them
    state = json.loads(backend.to_str())
    state["pre_tokenizer"] = None
    backend = Backend.from_str(json.dumps(state))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return backend


def unigram() -> Backend:
    """As T5 and XLM-R: normalized, stripped, and the most likely cut into tokens."""
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=MARKS, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator([text_of(n, GAPS, 300) for n in range(9)], trainer)
    return backend


def word_piece() -> Backend:
    backend = Backend(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=MARKS, show_progress=False)
    backend.train_from_iterator([text_of(n, GAPS, 300) for n in range(9)], trainer)
    return backend


# Each with whether text comes back from it.
BACKENDS: dict[str, tuple[Callable[[], Backend], bool]] = {
    "metaspace, always": (lambda: metaspace("always"), True),
    "metaspace, first": (lambda: metaspace("first"), True),
    "metaspace, never": (lambda: metaspace("never"), True),
    "as Llama 2": (llama2, True),
    "as GPT-2": (lambda: byte_level(add_prefix_space=False), True),
    "as RoBERTa": (lambda: byte_level(add_prefix_space=True), False),
    "Unigram": (unigram, False),
    "WordPiece": (word_piece, False),
}
TEXTS = {
    "words": (GAPS, 1500),
    "no place to cut": (["", "-", "\u3000", "-  "], 1500),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, (make, _) in BACKENDS.items():
        found[name] = tmp_path_factory.mktemp("tokenizer")
        make().save(str(found[name] / "tokenizer.json"))
    found["our own"] = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train_bytes([text_of(1, GAPS, 2000)], 500).save(found["our own"])
    return found


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_replacement_character_of_the_text_itself_is_no_loss(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(documents.Document.pieces, "__defaults__", (0, None, 1500))
    gaps, num_words = TEXTS["no place to cut"]
    for seed in range(2):
        text = text_of(seed, gaps, num_words)
        text = f"\ufffd{text}" if where == "first" else f"{text}\ufffd"
        (tmp_path / f"{seed}.txt").write_text(text)
    report = prepare(
        [tmp_path / "0.txt"], tmp_path / "s", tokenizer=str(folders["our own"]),
        validation=[tmp_path / "1.txt"],
    )  # fmt: skip
    assert report.manifest.lossless


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("name", [*BACKENDS, "our own"])
def test_the_tokens_of_the_pieces_are_those_of_the_whole(
    tmp_path: Path,
    folders: dict[str, Path],
    name: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(documents.Document.pieces, "__defaults__", (0, None, 1500))
    gaps, num_words = TEXTS[kind]
    texts = [text_of(seed, gaps, num_words) for seed in (11, 12, 13)]
    assert all(len(text) > 3 * 1500 for text in texts)
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_bytes(text.encode())
    with caplog.at_level(logging.WARNING, "foundling"):
        prepare(
            [tmp_path / "0.txt", tmp_path / "1.txt"],
            tmp_path / "s",
            tokenizer=str(folders[name]),
            validation=[tmp_path / "2.txt"],
        )
    store = TokenStore.open(tmp_path / "s")
    tokenizer = store.tokenizer()
    expected = [[*tokenizer.encode(text), tokenizer.end_of_text] for text in texts]
    begin = [] if tokenizer.begin_name is None else [tokenizer.begin_of_text]
    for split, ids in (
        ("train", [*begin, *expected[0], *begin, *expected[1]]),
        ("validation", [*begin, *expected[2]]),
    ):
        tokens = store.split(split)
        assert tokens.read(0, tokens.num_tokens).tolist() == ids
    lossless = name == "our own" or BACKENDS[name][1]
    assert store.manifest.lossless == lossless == all(map(tokenizer.is_lossless, texts))
    assert ("the tokenizer is lossy" in caplog.text) != lossless
