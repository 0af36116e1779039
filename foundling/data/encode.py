"""Turns the pieces of documents into tokens in a store."""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from foundling.base.config import ConfigError
from foundling.data.document_split import Piece
from foundling.data.documents import begins_word
from foundling.data.store_writer import StoreWriter
from foundling.text.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 20  # encoded at once; not by the number of cores, so as not to depend on it

log = logging.getLogger(__name__)

Batch = list[Piece]
Ids = list[list[int]]


def encode(pieces: Iterable[Piece], tokenizer: Tokenizer, writer: StoreWriter) -> bool:
    """Write every piece; whether all sampled texts came back from their tokens.

    The tokens of a document's pieces, one after the other, are those of the whole document.
    """
    lossless = True
    for number, (batch, ids) in enumerate(_encoded(pieces, tokenizer)):
        _write(batch, ids, tokenizer, writer)
        if lossless and (number < 8 or number % 64 == 0):
            samples = zip(batch[:16], ids, strict=False)
            changed = (p.source for p, tokens in samples if not _comes_back(p, tokens, tokenizer))
            if source := next(changed, None):
                lossless = False
                log.warning(
                    "%s: the tokenizer is lossy: this text does not come back from its tokens "
                    "unchanged. Losses in bits per byte cannot be given for this store.",
                    source,
                )
    return lossless


def _encoded(pieces: Iterable[Piece], tokenizer: Tokenizer) -> Iterator[tuple[Batch, Ids]]:
    """Each batch with its tokens; one is encoded while the next is read."""
    pending: tuple[Batch, Future[Ids]] | None = None
    with ThreadPoolExecutor(1) as pool:
        for batch in _batches(pieces):
            following = batch, pool.submit(_encode_batch, batch, tokenizer)
            if pending is not None:
                yield pending[0], pending[1].result()
            pending = following
        if pending is not None:
            yield pending[0], pending[1].result()


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


def _encode_batch(batch: Batch, tokenizer: Tokenizer) -> Ids:
    try:
        return tokenizer.encode_within([_window(piece, tokenizer) for piece in batch])
    except ConfigError:
        for piece in batch:
            try:
                tokenizer.encode(piece.text)
            except ConfigError as error:
                raise ConfigError(f"{piece.source}: {error}") from None
        raise


def _window(piece: Piece, tokenizer: Tokenizer) -> tuple[str, str, str]:
    """The piece between what its tokens may depend on."""
    joints = ((piece.before, piece.text), (piece.text, piece.after))
    if tokenizer.splits_at_words and all(begins_word(*joint) for joint in joints if all(joint)):
        return "", piece.text, ""
    return piece.before, piece.text, piece.after


def _write(batch: Batch, ids: Ids, tokenizer: Tokenizer, writer: StoreWriter) -> None:
    begin = tokenizer.begin_ids
    end = [tokenizer.end_of_text]
    for piece, tokens in zip(batch, ids, strict=True):
        split = writer.split(piece.split)
        if piece.begins:
            split.start_document()
            tokens = begin + tokens
        split.extend(tokens + end if piece.ends else tokens, num_bytes=len(piece.text.encode()))


def _comes_back(piece: Piece, tokens: list[int], tokenizer: Tokenizer) -> bool:
    text = tokenizer.decode(tokens, continues=not piece.begins)
    if piece.begins and piece.ends:
        return text == piece.text
    # Where no word begins, a token may reach over the border, and even part a character.
    around, text = piece.before + piece.text + piece.after, text.rstrip("\ufffd")
    return around.startswith(text) if piece.begins else text.lstrip("\ufffd") in around
