"""Turns the pieces of documents into tokens in a store."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from foundling.base.config import ConfigError
from foundling.data.document_split import Piece
from foundling.data.store_writer import StoreWriter
from foundling.text.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 20  # encoded at once; not by the number of cores, so as not to depend on it

Batch = list[Piece]
Ids = list[list[int]]


def encode(pieces: Iterable[Piece], tokenizer: Tokenizer, writer: StoreWriter) -> bool:
    """Write every piece; say whether text came back from its tokens on the samples."""
    lossless = True
    for number, (batch, ids) in enumerate(_encoded(pieces, tokenizer)):
        _write(batch, ids, tokenizer, writer)
        if lossless and (number < 8 or number % 64 == 0):
            lossless = _comes_back(batch, ids, tokenizer)
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
        return tokenizer.encode_batch([piece.text for piece in batch])
    except ConfigError:
        for piece in batch:
            try:
                tokenizer.encode(piece.text)
            except ConfigError as error:
                raise ConfigError(f"{piece.source}: {error}") from None
        raise


def _write(batch: Batch, ids: Ids, tokenizer: Tokenizer, writer: StoreWriter) -> None:
    begin = [] if tokenizer.begin_name is None else [tokenizer.begin_of_text]
    end = [tokenizer.end_of_text]
    for piece, tokens in zip(batch, ids, strict=True):
        split = writer.split(piece.split)
        if piece.begins:
            split.start_document()
            tokens = begin + tokens
        split.extend(tokens + end if piece.ends else tokens, num_bytes=len(piece.text.encode()))


def _comes_back(batch: Sequence[Piece], ids: Ids, tokenizer: Tokenizer) -> bool:
    """Decode the first documents of a batch, a long one as far as its second piece."""
    text, tokens = "", list[int]()
    for number, (piece, part) in enumerate(zip(batch[:16], ids, strict=False)):
        text, tokens = text + piece.text, tokens + part
        if piece.ends or number % 2:
            if tokenizer.decode(tokens) != text:
                return False
            text, tokens = "", []
    return True
