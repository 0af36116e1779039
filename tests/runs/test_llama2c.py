"""Models of llama2.c: the same logits and the same tokens as its own way of working them out."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling import cli
from foundling.base.config import ConfigError
from foundling.generation.engine import Engine
from foundling.generation.sampling import Sampling
from foundling.models.llama2c import halves_from_pairs
from foundling.runs.llama2c import Piece, import_model, read_pieces, tokenizer_of
from foundling.runs.run import load_model
from foundling.text.tokenizer import Tokenizer

FIXED = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
WORDS = [" a", "ab", "aa", " ab", "ba", "aab", "é", "bé", "  ", "    ", "   ", " the", "th", "the"]
CHARACTERS = list(" abthe<>0x4<s/é")
HEADER = {"dim": 24, "hidden_dim": 20, "layers": 3, "heads": 6, "kv_heads": 3, "context": 16}


def pieces_of(words: list[str]) -> list[tuple[str, float]]:
    """As `sentencepiece` numbers them: marks, bytes, merges best first, then characters."""
    single = [one for one in dict.fromkeys([*CHARACTERS, *"".join(words)]) if one not in words]
    return [(name, 0.0) for name in FIXED] + [
        (word, -float(place)) for place, word in enumerate([*words, *single])
    ]


GOOD = pieces_of(WORDS)


def write_pieces(file: Path, pieces: list[tuple[str, float]], longest: int = 32) -> Path:
    content = struct.pack("<i", longest)
    for text, score in pieces:
        raw = text.encode()
        content += struct.pack("<fi", score, len(raw)) + raw
    file.write_bytes(content)
    return file


def encode_as_run_c(pieces: list[tuple[str, float]], text: str) -> list[int]:
    """`encode` of run.c: characters or their bytes, then the best merge, the leftmost of equals."""
    ids = {piece: id for id, (piece, _) in enumerate(pieces)}
    tokens = [ids[" "]] if text else []
    for character in text:
        one = ids.get(character)
        tokens += [byte + 3 for byte in character.encode()] if one is None else [one]
    while True:
        best, best_id, best_place = -1e10, -1, -1
        for place in range(len(tokens) - 1):
            id = ids.get(pieces[tokens[place]][0] + pieces[tokens[place + 1]][0], -1)
            if id != -1 and pieces[id][1] > best:
                best, best_id, best_place = pieces[id][1], id, place
        if best_id == -1:
            return tokens
        tokens[best_place : best_place + 2] = [best_id]


def write_checkpoint(file: Path, *, vocab: int, tied: bool, **changes: int) -> dict[str, Any]:
    """Random weights in the order of the file; gives them by their names in run.c."""
    sizes = {**HEADER, **changes}
    dim, hidden, layers, heads, kv_heads, context = sizes.values()
    head_dim = dim // heads
    angles = np.outer(np.arange(context), 10_000.0 ** (-np.arange(0, head_dim, 2) / head_dim))
    shapes = {
        "token_embedding": (vocab, dim),
        "rms_att": (layers, dim),
        "wq": (layers, dim, dim),
        "wk": (layers, kv_heads * head_dim, dim),
        "wv": (layers, kv_heads * head_dim, dim),
        "wo": (layers, dim, dim),
        "rms_ffn": (layers, dim),
        "w1": (layers, hidden, dim),
        "w2": (layers, dim, hidden),
        "w3": (layers, hidden, dim),
        "rms_final": (dim,),
    }
    random = np.random.default_rng(5)
    weights = {k: 0.3 * random.standard_normal(shape) for k, shape in shapes.items()}
    weights |= {"real": np.cos(angles), "imag": np.sin(angles)}
    if not tied:
        weights["wcls"] = 0.3 * random.standard_normal((vocab, dim))
    weights = {name: weight.astype("<f4") for name, weight in weights.items()}
    header = (dim, hidden, layers, heads, kv_heads, vocab if tied else -vocab, context)
    file.write_bytes(struct.pack("<7i", *header) + b"".join(w.tobytes() for w in weights.values()))
    return weights | {"heads": heads, "kv_heads": kv_heads}


def logits_as_run_c(w: dict[str, Any], tokens: list[int]) -> np.ndarray:
    """`forward` of run.c, token by token, with neighbours turned as pairs; in float64."""
    dim, heads, group = w["rms_final"].size, w["heads"], w["heads"] // w["kv_heads"]
    head_dim = dim // heads
    layers = len(w["wq"])
    keys: list[list[Any]] = [[] for _ in range(layers)]
    values: list[list[Any]] = [[] for _ in range(layers)]

    def norm(x: Any, weight: Any) -> Any:
        return weight * x / math.sqrt((x * x).mean() + 1e-5)

    def turn(vector: Any, position: int) -> Any:
        turned = vector.copy()
        for i in range(0, len(vector), 2):
            angle = position / 10_000.0 ** ((i % head_dim) / head_dim)
            cos, sin = math.cos(angle), math.sin(angle)
            turned[i] = vector[i] * cos - vector[i + 1] * sin
            turned[i + 1] = vector[i] * sin + vector[i + 1] * cos
        return turned

    rows = []
    for position, token in enumerate(tokens):
        x = w["token_embedding"][token].astype(np.float64)
        for layer in range(layers):
            normed = norm(x, w["rms_att"][layer])
            q = turn(w["wq"][layer] @ normed, position)
            keys[layer].append(turn(w["wk"][layer] @ normed, position))
            values[layer].append(w["wv"][layer] @ normed)
            mixed = np.zeros(dim)
            for head in range(heads):
                mine = slice(head * head_dim, (head + 1) * head_dim)
                start = head // group * head_dim
                shared = slice(start, start + head_dim)
                scores = [q[mine] @ key[shared] / math.sqrt(head_dim) for key in keys[layer]]
                shares = np.exp(scores - np.max(scores))
                for share, value in zip(shares / shares.sum(), values[layer], strict=True):
                    mixed[mine] += share * value[shared]
            x = x + w["wo"][layer] @ mixed
            normed = norm(x, w["rms_ffn"][layer])
            gate, up = w["w1"][layer] @ normed, w["w3"][layer] @ normed
            x = x + w["w2"][layer] @ (gate / (1 + np.exp(-gate)) * up)
        rows.append(w.get("wcls", w["token_embedding"]) @ norm(x, w["rms_final"]))
    return np.array(rows)


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


@pytest.mark.parametrize("tied", [True, False])
def test_an_imported_model_gives_the_logits_of_run_c(tmp_path: Path, tied: bool) -> None:
    pieces = GOOD
    weights = write_checkpoint(tmp_path / "model.bin", vocab=len(pieces), tied=tied)
    file = write_pieces(tmp_path / "tok.bin", pieces)
    out = tmp_path / "folder"
    assert call("import", tmp_path / "model.bin", "--tokenizer", file, "--out", out) == 0

    model, tokenizer = load_model(out)
    tokens = torch.randint(len(pieces), (16,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.eval().logits(model.hidden(tokens[None]))[0].numpy()
    assert np.abs(ours - logits_as_run_c(weights, tokens.tolist())).max() < 1e-5
    assert (tokenizer.begin_of_text, tokenizer.end_of_text) == (1, 2)
    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["tie_word_embeddings"]) == ("llama", tied)
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)


def test_halves_come_from_pairs() -> None:
    rows = torch.arange(12.0)[:, None]
    expected = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
    assert halves_from_pairs(rows, head_dim=6)[:, 0].tolist() == expected


def opened(file: Path, pieces: list[tuple[str, float]]) -> Tokenizer:
    return tokenizer_of(read_pieces(write_pieces(file, pieces)), file)


PARTS = [*" abthe<>0x4é▁\n🦉", " the ", "<s>", "<0x41>"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=24).map("".join)


@given(text=TEXTS)
@settings(max_examples=300)
def test_a_text_becomes_the_tokens_of_run_c_and_comes_back(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    assert ids == encode_as_run_c(GOOD, text)
    assert tokenizer.decode(ids) == text


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("llama2c")
    opened(folder / "tok.bin", GOOD).save(folder)
    return Tokenizer.load(folder)


@given(
    joins=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=4, max_size=14),
    order=st.randoms(use_true_random=False),
    texts=st.lists(st.text(" ab", min_size=12, max_size=30), min_size=5, max_size=5),
)
@settings(max_examples=60)
def test_any_scores_give_the_tokens_of_run_c(
    tmp_path_factory: pytest.TempPathFactory,
    joins: list[tuple[int, int]],
    order: Any,
    texts: list[str],
) -> None:
    """Words joined of others, runs of one letter among them, ranked without regard to length."""
    words = list(" ab")
    for one, other in joins:
        word = words[one % len(words)] + words[other % len(words)]
        if word not in words and len(word) <= 10:
            words.append(word)
    order.shuffle(words)
    pieces = pieces_of(words)
    made = opened(tmp_path_factory.getbasetemp() / "any.bin", pieces)
    for text in texts:
        assert made.encode(text) == encode_as_run_c(pieces, text)


def test_a_continuation_keeps_its_first_space(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model.bin", vocab=len(GOOD), tied=True)
    file = write_pieces(tmp_path / "tok.bin", GOOD)
    engine = Engine(
        import_model(tmp_path / "model.bin", file, tmp_path / "out"), opened(file, GOOD)
    )
    tokenizer, firsts = engine.tokenizer, []
    for seed in range(60):
        hot = Sampling(temperature=50, seed=seed)
        (chunk,) = engine.stream("the", max_tokens=1, sampling=hot)
        whole = tokenizer.decode([*tokenizer.encode("the"), *chunk.tokens])
        assert "the" + chunk.text == whole
        firsts.append(chunk.text[:1])
    assert " " in firsts


def model_bytes(folder: Path, **changes: int) -> bytes:
    write_checkpoint(folder / "good.bin", vocab=len(GOOD), tied=True, **changes)
    return (folder / "good.bin").read_bytes()


def with_header(content: bytes, field: int, number: int) -> bytes:
    return content[: 4 * field] + struct.pack("<i", number) + content[4 * field + 4 :]


BAD_MODELS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "short": (lambda b: b[:-4], "it is cut short"),
    "long": (lambda b: b + b"\0" * 8, "it is too long"),
    "header alone": (lambda b: b[:27], "fewer than the header"),
    "no layers": (lambda b: with_header(b, 2, 0), "n_layers = 0, which must be at least 1"),
    "kv heads": (lambda b: with_header(b, 4, 4), "n_heads = 6, n_kv_heads = 4"),
    "odd heads": (lambda b: with_header(b, 3, 8), "a multiple of 2 · n_heads"),
    "version 1": (lambda b: b"24ka\1\0\0\0" + b[8:], "of version 1; Foundling reads version 0"),
    "huge": (lambda b: with_header(with_header(b, 2, 2**31 - 1), 0, 12 << 26), "it is cut short"),
    "shared": (lambda b: with_header(b, 5, -273), "it is cut short"),
    "table": (lambda b: b[:-4] + struct.pack("<f", 0.5), "rotary table is not that of theta"),
    "nan": (lambda b: b[:28] + struct.pack("<f", math.nan) + b[32:], "embed.weight holds values"),
}


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_a_bad_checkpoint_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    spoil, expected = BAD_MODELS[fault]
    (tmp_path / "bad.bin").write_bytes(spoil(model_bytes(tmp_path)))
    file = write_pieces(tmp_path / "tok.bin", GOOD)
    out = tmp_path / "out"
    assert call("import", tmp_path / "bad.bin", "--tokenizer", file, "--out", out) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "bad.bin" in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (GOOD[:-1], "tokens and the model of"),
        ([*GOOD[:259], (" a", 0.0), *GOOD[260:], ("more", -99.0)], "tokens and the model of"),
        ([*GOOD[:-1], ("ab", -99.0)], "is token 260 too"),
        ([*GOOD[:-1], ("▁x", -99.0)], 'must spell "▁" as a space'),
        ([*GOOD[:-1], ("ae", -1.0)], "tokens 'ab' and 'ae' have the same score -1"),
        ([*GOOD[:-1], ("ae", math.inf)], "a finite score"),
        ([*GOOD[:-1], ("", -99.0)], "has 0 bytes"),
        ([*GOOD[:-1], ("e" * 40, -99.0)], "has 40 bytes"),
        ([*GOOD[:7], ("x!", 0.0), *GOOD[8:]], "must be <0x00> to <0xFF>"),
    ],
)
def test_a_bad_tokenizer_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pieces: list[tuple[str, float]],
    expected: str,
) -> None:
    write_checkpoint(tmp_path / "model.bin", vocab=len(GOOD), tied=True)
    file = write_pieces(tmp_path / "bad.bin", pieces)
    out = tmp_path / "out"
    assert call("import", tmp_path / "model.bin", "--tokenizer", file, "--out", out) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("cut", [1, 5, 2])
def test_a_tokenizer_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    file = write_pieces(tmp_path / "tok.bin", GOOD)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(ConfigError, match=f"token {len(GOOD) - 1} is cut short"):
        read_pieces(file)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "model.bin", vocab=len(GOOD), tied=True)
    file = write_pieces(tmp_path / "tok.bin", GOOD)
    command = ("import", tmp_path / "model.bin", "--tokenizer", file, "--out", tmp_path)
    assert call(*command) == 2
    assert "is not empty; give another --out" in capsys.readouterr().err


def test_the_marks_have_their_own_names(tmp_path: Path) -> None:
    pieces = read_pieces(write_pieces(tmp_path / "tok.bin", GOOD))
    assert pieces[:3] == [Piece("<unk>", 0.0), Piece("<s>", 0.0), Piece("</s>", 0.0)]
