"""Imports a model of llama2.c: its checkpoint and its tokenizer.bin become one model folder.

Source: karpathy/llama2.c, `tokenizer.py` (`export`) and `run.c` (`encode`).
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.models import interchange, llama2c
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer

MARKS = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
NEVER = -1e10
"""A merge must score higher than this to be used."""


class Piece(NamedTuple):
    text: str
    score: float


def import_model(checkpoint: Path, tokenizer_file: Path, out: Path) -> LanguageModel:
    """Write the model folder `out` and return the model.

    Raises:
        ConfigError: a file is malformed, the two do not belong together, or `out` is not empty;
            nothing is written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is not empty; give another --out.")
    model, pieces = llama2c.load(checkpoint), read_pieces(tokenizer_file)
    if len(pieces) != model.vocab_size:
        raise ConfigError(
            f"{tokenizer_file}: has {len(pieces):,} tokens and the model of {checkpoint} knows "
            f"{model.vocab_size:,}; give the tokenizer that the model was trained with."
        )
    tokenizer = tokenizer_of(pieces, tokenizer_file)
    tokenizer.save(out)
    interchange.save(model, out, tokenizer.mark_ids())
    return model


def read_pieces(file: Path) -> list[Piece]:
    """The tokens of a tokenizer.bin with their scores, the three marks under their own names.

    Raises:
        ConfigError: the file is not of this layout.
    """
    content, at, pieces = file.read_bytes(), 4, list[Piece]()
    if len(content) < 4:
        raise ConfigError(f"{file}: has {len(content)} bytes; not a tokenizer.bin of llama2.c.")
    longest = struct.unpack_from("<i", content)[0]
    while at < len(content):
        where = f"{file}: token {len(pieces)}"
        if at + 8 > len(content):
            raise ConfigError(f"{where} is cut short; copy the file again.")
        score, length = struct.unpack_from("<fi", content, at)
        if not 1 <= length <= longest or not math.isfinite(score):
            raise ConfigError(
                f"{where} has {length} bytes and score {score:g}, where the header allows 1 to "
                f"{longest} bytes and a finite score; not a tokenizer.bin of llama2.c."
            )
        raw, at = content[at + 8 : at + 8 + length], at + 8 + length
        if len(raw) < length:
            raise ConfigError(f"{where} is cut short; copy the file again.")
        try:
            pieces.append(Piece(raw.decode(), score))
        except UnicodeDecodeError:
            raise ConfigError(f"{where} is not UTF-8; not a tokenizer.bin of llama2.c.") from None
    for id, name in enumerate(MARKS[: len(pieces)]):
        pieces[id] = Piece(name, pieces[id].score)  # stored as "\n<s>\n"
    return pieces


def tokenizer_of(pieces: list[Piece], file: Path) -> Tokenizer:
    """The tokenizer that encodes as `run.c` does: always the merge of the best score, leftmost.

    Its tokens are spelled with plain spaces as in the file: with sentencepiece's "▁" a text that
    holds this character would be read as a space.

    Raises:
        ConfigError: merges in a fixed order cannot do the same.
    """
    vocab: dict[str, int] = {}
    for id, piece in enumerate(pieces):
        if piece.text in vocab or "▁" in piece.text:
            fault = "is token {} too" if piece.text in vocab else 'must spell "▁" as a space'
            fault = fault.format(vocab.get(piece.text))
            raise ConfigError(f"{file}: token {id}, {piece.text!r}, {fault}.")
        vocab[piece.text] = id
    first = len(MARKS) + len(BYTES)
    found = tuple(piece.text for piece in pieces[len(MARKS) : first])
    if found != BYTES or " " not in vocab:
        raise ConfigError(
            f"{file}: tokens 3 to 258 must be <0x00> to <0xFF>, and a space must be a token; "
            "not a tokenizer.bin of llama2.c."
        )
    unk = MARKS[0]
    model = models.BPE(vocab, _merges(pieces, file), unk_token=unk, byte_fallback=True)
    backend = Backend(model)
    backend.normalizer = normalizers.Prepend(" ")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(name, special=True) for name in MARKS])
    return Tokenizer(backend, MARKS[1], MARKS[2], None)


def _merges(pieces: list[Piece], file: Path) -> list[tuple[str, str]]:
    """The pairs of tokens that make an ordinary token (not special, not a byte), best first."""
    known = {piece.text for piece in pieces[len(MARKS) :]}
    found: dict[float, tuple[str, list[tuple[str, str]]]] = {}
    for text, score in pieces[len(MARKS) + len(BYTES) :]:
        # Their order among themselves does not tell: measured, 135,000 texts of random scores give
        # the tokens of `run.c` with the longer left part first as with the shorter.
        splits = ((text[:cut], text[cut:]) for cut in range(len(text) - 1, 0, -1))
        pairs = [pair for pair in splits if known.issuperset(pair)]
        if not pairs or score <= NEVER:
            continue
        if score in found:
            raise ConfigError(
                f"{file}: tokens {found[score][0]!r} and {text!r} have the same score {score:g}, "
                "so that neither is merged first; give each its own score."
            )
        found[score] = (text, pairs)
    return [pair for score in sorted(found, reverse=True) for pair in found[score][1]]
