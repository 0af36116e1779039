"""The tokenizers: every text comes back, every byte is counted, no special token slips in."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.text.own_templates import SPECIAL_TOKENS
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.tokenizer import Tokenizer

CORPUS = ["the cat sat on the mat.\n", "The dog's 42 naïve dogs — 東京 🦉\n"] * 20


@pytest.fixture(scope="session")
def bytes_tokenizer() -> Tokenizer:
    return Tokenizer.train_bytes(CORPUS, vocab_size=320)


@pytest.fixture(scope="session")
def character_tokenizer() -> Tokenizer:
    return Tokenizer.characters(CORPUS)


def sentencepiece(folder: Path, *, metaspace: bool) -> Tokenizer:
    """A tokenizer.json built the way that Llama 2 (byte fallback) or T5 (metaspace) does."""
    words = ["▁", "▁the", "▁cat", "s", "a", "t", "é"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocab = {name: id for id, name in enumerate(names)}
    backend = Backend(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    else:
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(n, special=True) for n in ("<unk>", "<s>", "</s>")])
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def test_special_tokens_come_first_and_pad_is_not_the_end(
    bytes_tokenizer: Tokenizer, character_tokenizer: Tokenizer
) -> None:
    for tokenizer in (bytes_tokenizer, character_tokenizer):
        assert [tokenizer.special(name) for name in SPECIAL_TOKENS] == list(range(7))
        ids = (tokenizer.begin_of_text, tokenizer.end_of_text, tokenizer.pad)
        assert ids == (0, 1, 2)
        assert tokenizer.special_ids == set(range(7))


@given(st.text())
def test_any_text_comes_back_from_bytes(bytes_tokenizer: Tokenizer, text: str) -> None:
    ids = bytes_tokenizer.encode(text)
    raw = text.encode()
    assert bytes_tokenizer.decode(ids) == text
    assert bytes_tokenizer.is_lossless(text)
    assert b"".join(map(bytes_tokenizer.bytes_of, ids)) == raw
    assert bytes_tokenizer.token_bytes[ids].sum() == len(raw)


@given(st.text(st.sampled_from(sorted(set("".join(CORPUS))))))
def test_any_text_of_known_characters_comes_back(character_tokenizer: Tokenizer, text: str) -> None:
    ids = character_tokenizer.encode(text)
    assert len(ids) == len(text)
    assert character_tokenizer.decode(ids) == text
    assert character_tokenizer.token_bytes[ids].sum() == len(text.encode())


@given(st.lists(st.integers(0, 319)))
def test_any_tokens_decode_as_the_library_does(bytes_tokenizer: Tokenizer, ids: list[int]) -> None:
    """Random ids break UTF-8; an independent decoder must agree on each U+FFFD."""
    ids = [id for id in ids if id < bytes_tokenizer.vocab_size]
    expected = bytes_tokenizer._backend.decode(ids, skip_special_tokens=True)
    assert bytes_tokenizer.decode(ids) == expected


@given(st.lists(st.integers(0, 300)))
def test_a_stream_is_the_whole(bytes_tokenizer: Tokenizer, ids: list[int]) -> None:
    decoder = StreamDecoder(bytes_tokenizer)
    parts = [decoder.push(id) for id in ids]
    whole = b"".join(map(bytes_tokenizer.bytes_of, ids)).decode("utf-8", errors="replace")
    assert "".join(parts) + decoder.flush() == whole


@given(st.text(min_size=1))
def test_a_stream_never_shows_a_part_of_a_character(bytes_tokenizer: Tokenizer, text: str) -> None:
    decoder = StreamDecoder(bytes_tokenizer)
    shown = ""
    for id in bytes_tokenizer.encode(text):
        shown += decoder.push(id)
        assert text.startswith(shown)
    assert shown == text
    assert decoder.flush() == ""


def test_a_stream_cut_inside_a_character_ends_in_a_replacement(
    bytes_tokenizer: Tokenizer,
) -> None:
    decoder = StreamDecoder(bytes_tokenizer)
    first = next(i for i in range(7, 263) if bytes_tokenizer.bytes_of(i) == b"\xf0")
    assert (decoder.push(first), decoder.flush()) == ("", "\ufffd")


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_text_that_spells_a_special_token_stays_text(bytes_tokenizer: Tokenizer, name: str) -> None:
    text = f"say {name} now"
    ids = bytes_tokenizer.encode(text)
    assert not bytes_tokenizer.special_ids & set(ids)
    assert bytes_tokenizer.decode(ids) == text
    spelled = Tokenizer.characters([text])
    assert len(spelled.encode(text)) == len(text)


def test_special_tokens_are_left_out_or_shown(bytes_tokenizer: Tokenizer) -> None:
    ids = [0, *bytes_tokenizer.encode("hi"), 1]
    assert bytes_tokenizer.decode(ids) == "hi"
    shown = bytes_tokenizer.decode(ids, show_special=True)
    assert shown == "<|begin_of_text|>hi<|end_of_text|>"


def test_an_unknown_character_is_named(character_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"'Ω' \(U\+03A9\).*character 4 of the text"):
        character_tokenizer.encode("the Ω")
    with pytest.raises(ValueError, match=r"U\+0001"):
        character_tokenizer.encode_batch(["the", "\x01"])


@given(st.text())
def test_a_text_is_known_exactly_where_it_can_be_encoded(
    bytes_tokenizer: Tokenizer, character_tokenizer: Tokenizer, text: str
) -> None:
    assert bytes_tokenizer.knows(text)
    assert bytes_tokenizer.is_lossless(text)
    if character_tokenizer.knows(text):
        assert character_tokenizer.is_lossless(text)
    else:
        with pytest.raises(ConfigError, match="not among the"):
            character_tokenizer.encode(text)


def test_known_and_unknown_characters(character_tokenizer: Tokenizer) -> None:
    for known in ("", "the cat", "東京 🦉", "\n"):
        assert character_tokenizer.knows(known)
    for unknown in ("the Ω", "\t", "東 京!", "<|pad|>"):
        assert not character_tokenizer.knows(unknown)
    assert Tokenizer.characters([]).knows("")
    assert not Tokenizer.characters([]).knows("a")


def test_characters_are_fast() -> None:
    text = "To be, or not to be, that is the question:\n" * 6_000
    tokenizer = Tokenizer.characters([text])
    began = time.process_time()
    assert len(tokenizer.encode(text)) == len(text)
    assert time.process_time() - began < 2  # measured: 0.06 s


def test_a_vocabulary_too_small_for_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 263"):
        Tokenizer.train_bytes(["a"], vocab_size=262)
    assert Tokenizer.train_bytes([], vocab_size=263).is_lossless("any ☃")


def test_training_gives_the_same_on_any_number_of_cores(tmp_path: Path) -> None:
    script = (
        "from foundling.text.tokenizer import Tokenizer\n"
        "words = [f'{a}{b}{c}' for a in 'abcde' for b in 'fghij' for c in 'klmno']\n"
        "print(Tokenizer.train_bytes([' '.join(words)] * 9, 400).fingerprint)"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "RAYON_NUM_THREADS": cores, "PYTHONHASHSEED": cores},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for cores in ("1", "4")
    }
    assert len(prints) == 1


def test_saved_and_loaded_is_the_same(
    tmp_path: Path, bytes_tokenizer: Tokenizer, character_tokenizer: Tokenizer
) -> None:
    text = CORPUS[1]
    for tokenizer in (bytes_tokenizer, character_tokenizer):
        tokenizer.save(tmp_path)
        tokenizer.save(tmp_path / "store" / "tokenizer")
        for path in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "store"):
            loaded = Tokenizer.load(path)
            assert loaded.fingerprint == tokenizer.fingerprint
            assert loaded.kind == tokenizer.kind
            assert loaded.encode(text) == tokenizer.encode(text)
            assert (loaded.begin_of_text, loaded.end_of_text, loaded.pad) == (0, 1, 2)
    values = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert values["post_processor"]["type"] == "TemplateProcessing"
    canonical = json.dumps(
        {**values, "post_processor": None},  # as the files of before said nothing of a begin mark
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    assert hashlib.sha256(canonical.encode()).hexdigest() == character_tokenizer.fingerprint


@pytest.mark.filterwarnings("ignore")  # whatever transformers warns of on import is not ours
def test_transformers_opens_it(
    tmp_path: Path, bytes_tokenizer: Tokenizer, character_tokenizer: Tokenizer
) -> None:
    transformers = pytest.importorskip("transformers")
    for tokenizer in (bytes_tokenizer, character_tokenizer):
        tokenizer.save(tmp_path)
        theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
        ids = theirs(CORPUS[0], add_special_tokens=False)["input_ids"]
        assert ids == tokenizer.encode(CORPUS[0])
        assert theirs.decode(ids) == CORPUS[0]
        assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (0, 1, 2)


@pytest.mark.filterwarnings("ignore")
def test_transformers_begins_texts_as_we_do(
    tmp_path: Path, bytes_tokenizer: Tokenizer, character_tokenizer: Tokenizer
) -> None:
    transformers = pytest.importorskip("transformers")
    for tokenizer in (bytes_tokenizer, character_tokenizer):
        tokenizer.save(tmp_path / "saved")
        theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "saved"))
        begin, text = [tokenizer.begin_of_text], tokenizer.encode("the cat")
        assert tokenizer.begin_ids == begin
        assert theirs("the cat")["input_ids"] == begin + text
        assert theirs("the cat", "the cat")["input_ids"] == 2 * (begin + text)
        assert Tokenizer.load(tmp_path / "saved").encode("the cat") == text
        asked = [{"role": "user", "content": "the cat"}]
        chat = theirs.apply_chat_template(asked, tokenize=True)["input_ids"]
        assert chat == [*begin, tokenizer.special("<|user|>"), *text, chat[-1]]


def test_files_that_say_nothing_of_the_begin_mark_stay_valid(
    tmp_path: Path, bytes_tokenizer: Tokenizer
) -> None:
    bytes_tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    said = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**said, "post_processor": None}), "utf-8")
    old = Tokenizer.load(tmp_path)
    assert old.fingerprint == bytes_tokenizer.fingerprint
    assert old.begin_ids == bytes_tokenizer.begin_ids
    old.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer.json").read_text("utf-8")) == said
    mute = tmp_path / "tokenizer_config.json"
    mute.write_text(json.dumps({**json.loads(mute.read_text("utf-8")), "add_bos_token": False}))
    Tokenizer.load(tmp_path).save(tmp_path / "mute")
    assert Tokenizer.load(tmp_path / "mute").begin_ids == []
    assert (tmp_path / "mute" / "tokenizer.json").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("metaspace", [False, True])
def test_a_sentencepiece_like_tokenizer(tmp_path: Path, metaspace: bool) -> None:
    tokenizer = sentencepiece(tmp_path, metaspace=metaspace)
    assert tokenizer.kind == "sentencepiece"
    text = " atta é 東 s"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer._backend.decode(ids)
    word, byte = tokenizer.special("▁the"), tokenizer.special("<0xE6>")
    assert (tokenizer.bytes_of(word), tokenizer.bytes_of(byte)) == (b" the", b"\xe6")
    assert (tokenizer.token_bytes[word], tokenizer.token_bytes[byte]) == (4, 1)
    decoder = StreamDecoder(tokenizer)
    parts = [decoder.push(id) for id in [tokenizer.end_of_text, word, word]]
    assert parts == ["", "the", " the"]
    assert tokenizer.begin_of_text == tokenizer.special("<s>")
    with pytest.raises(ConfigError, match="is padding"):
        _ = tokenizer.pad


def test_a_wordpiece_tokenizer_streams_what_it_decodes(tmp_path: Path) -> None:
    vocab = {"[UNK]": 0, "</s>": 1, "hel": 2, "##lo": 3, "you": 4, ".": 5}
    backend = Backend(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["</s>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    ids = tokenizer.encode("hello you.")
    decoder = StreamDecoder(tokenizer)
    assert "".join([decoder.push(id) for id in ids]) + decoder.flush() == "hello you."
    assert tokenizer.bytes_of(3) == b"lo"
    assert not tokenizer.is_lossless("hello unknown.")


def minimal(folder: Path, names: list[str], config: str | None = None) -> Path:
    backend = Backend(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=names[0]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "removed")
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    backend.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(config, "utf-8")
    return folder


@pytest.mark.parametrize(
    ("names", "config", "end", "pad"),
    [
        (["a", "<|endoftext|>"], None, 1, None),
        (["a", "END", "P"], '{"eos_token": "END", "pad_token": {"content": "P"}}', 1, 2),
        (["a", "END"], '{"eos_token": {"content": "END"}, "pad_token": "END"}', 1, None),
        (["a", "</s>", "<|end_of_text|>"], '{"eos_token": "</s>"}', 1, None),
    ],
)
def test_the_end_of_text_of_an_existing_tokenizer(
    tmp_path: Path, names: list[str], config: str | None, end: int, pad: int | None
) -> None:
    tokenizer = Tokenizer.load(minimal(tmp_path, names, config))
    assert tokenizer.end_of_text == end
    assert tokenizer.encode("a a a a") == [0, 0, 0, 0]  # neither cut nor padded
    assert tokenizer.begin_name is None
    if pad is None:
        with pytest.raises(ConfigError, match="is padding and nothing else"):
            _ = tokenizer.pad
    else:
        assert tokenizer.pad == pad
    with pytest.raises(ConfigError, match="begins a text"):
        _ = tokenizer.begin_of_text


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(ConfigError, match=r'no token ends a text.*"eos_token"'):
        Tokenizer.load(minimal(tmp_path, ["a"]))
    with pytest.raises(ConfigError, match="not valid JSON"):
        Tokenizer.load(minimal(tmp_path, ["a"], "{"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"not a tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_an_id_outside_the_vocabulary_is_refused(bytes_tokenizer: Tokenizer) -> None:
    for id in (-1, bytes_tokenizer.vocab_size):
        with pytest.raises(ValueError, match="vocabulary ends at"):
            bytes_tokenizer.bytes_of(id)
