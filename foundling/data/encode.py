"""Turns the pieces of documents into tokens in a store."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from foundling.base.config import ConfigError
from foundling.data.document_split import CONTEXT_CHARACTERS, Piece
from foundling.data.encoders import Encoder, Window
from foundling.data.store_writer import StoreWriter
from foundling.text.tokenizer import Tokenizer
from foundling.text.word_cuts import WordCuts

BATCH_CHARACTERS = 1 << 20  # encoded at once; not by the number of cores, so as not to depend on it

log = logging.getLogger(__name__)

Batch = list[Piece]


def encode(
    pieces: Iterable[Piece], tokenizer: Tokenizer, writer: StoreWriter, encoder: Encoder
) -> bool:
    """Write every piece; whether all sampled texts came back from their tokens.

    The tokens of a document's pieces, one after the other, are those of the whole document.
    """
    lossless = True
    for number, (batch, tokens) in enumerate(_encoded(pieces, tokenizer, encoder)):
        _write(batch, tokens, tokenizer, writer)
        # Often at first, seldom later: decoding takes much longer than encoding.
        if lossless and (number.bit_count() < 2 or number % 64 == 0):
            samples = zip(batch[:8], tokens, strict=False)
            changed = (p.source for p, raw in samples if not _comes_back(p, raw, tokenizer, writer))
            if source := next(changed, None):
                lossless = False
                log.warning(
                    "%s: the tokenizer is lossy: this text does not come back from its tokens "
                    "unchanged. Losses in bits per byte cannot be given for this store.",
                    source,
                )
    return lossless


def _encoded(
    pieces: Iterable[Piece], tokenizer: Tokenizer, encoder: Encoder
) -> Iterator[tuple[Batch, list[bytes]]]:
    """Each batch with its tokens, in order; some are encoded while the next ones are read."""
    pending: deque[tuple[Batch, Future[list[bytes]]]] = deque()
    with ThreadPoolExecutor(encoder.at_once) as pool:
        for batch in _batches(pieces):
            windows = [_window(piece, tokenizer.word_cuts) for piece in batch]
            pending.append((batch, pool.submit(encoder.encode, windows)))
            if len(pending) > encoder.at_once:
                yield _finished(*pending.popleft(), tokenizer)
        while pending:
            yield _finished(*pending.popleft(), tokenizer)


def _finished(
    batch: Batch, future: Future[list[bytes]], tokenizer: Tokenizer
) -> tuple[Batch, list[bytes]]:
    try:
        return batch, future.result()
    except ConfigError:
        for piece in batch:
            try:
                tokenizer.encode(piece.text)
            except ConfigError as error:
                raise ConfigError(f"{piece.source}: {error}") from None
        raise


def _batches(pieces: Iterable[Piece]) -> Iterator[Batch]:
    batch: Batch = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _window(piece: Piece, cuts: WordCuts | None) -> Window:
    """The piece between what its tokens may depend on.

    Where a text can be cut it is the text from the first such place in the piece to the first one
    in the next piece, between nothing.
    """
    if cuts is None:
        return piece.before, piece.text, piece.after
    low = 0 if piece.begins else cuts.first(piece.before, piece.text[:CONTEXT_CHARACTERS])
    high = 0 if piece.ends else cuts.first(piece.text, piece.after)
    before = piece.before if low is None else ""
    after = piece.after if high is None else ""
    return before, piece.text[low or 0 :] + piece.after[: high or 0], after


def _write(batch: Batch, tokens: list[bytes], tokenizer: Tokenizer, writer: StoreWriter) -> None:
    begin, end = writer.packed(tokenizer.begin_ids), writer.packed([tokenizer.end_of_text])
    for piece, raw in zip(batch, tokens, strict=True):
        split = writer.split(piece.split)
        if piece.begins:
            split.start_document()
            raw = begin + raw
        split.write(raw + end if piece.ends else raw, num_bytes=len(piece.text.encode()))


def _comes_back(piece: Piece, raw: bytes, tokenizer: Tokenizer, writer: StoreWriter) -> bool:
    text = tokenizer.decode(writer.unpacked(raw), continues=not piece.begins)
    if piece.begins and piece.ends:
        return text == piece.text
    # Where no word begins, a token may reach over the border, and even part a character.
    around, text = piece.before + piece.text + piece.after, text.rstrip("\ufffd")
    return around.startswith(text) if piece.begins else text.lstrip("\ufffd") in around
