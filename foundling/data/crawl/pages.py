"""Reads WARC, WET, HTML and JSONL files: the first step of the pipeline."""

import io
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any

import fsspec
import zstandard
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed

from foundling.base.config import ConfigError
from foundling.data.crawl.decoding import decoded
from foundling.data.crawl.inputs import HTML_ENDINGS, WARC_ENDINGS
from foundling.data.crawl.settings import ReadingSection
from foundling.data.readers.fields import Row, text_in
from foundling.data.readers.source_file import SourceFile, unpacked
from foundling.data.rows import Rows, rows_of
from foundling.data.source_errors import SourceError, good_items

HTML, TEXT = "html", "text"
_HTML_TYPES = ("text/html", "application/xhtml+xml")
# What reading may raise where bytes are missing or are not what they were.
_BROKEN = (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError)


class Pages(PipelineStep):
    """The pages of every `tasks`-th file, with url, date, file and kind (html or text).

    What is no page or cannot be read is counted by reason, and files at fault are listed.
    """

    type, name = "READER", "pages"

    def __init__(self, files: Sequence[str], settings: ReadingSection) -> None:
        super().__init__()
        self.files, self.settings = list(files), settings

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        for file in self.files[rank::world_size]:
            logger.info(f"reading {file}")
            self.stat_update("files")
            try:
                for document in self._documents(file):
                    self.stat_update("pages")
                    self.update_doc_stats(document)
                    yield document
            except _Fault as fault:
                self._fault(file, str(fault))

    def _fault(self, file: str, fault: str) -> None:
        if self.settings.on_error == "stop":
            raise ConfigError(
                f"{file}: {fault}; --set reading.on_error=skip reads what can be read."
            )
        logger.warning(f"{file}: {fault}")
        self.stat_update(f"fault: {fault}")
        self.stat_update(f"file at fault: {file}: {fault}")

    def _documents(self, file: str) -> Iterator[Document]:
        lower = file.lower()
        if lower.endswith(WARC_ENDINGS):
            yield from self._of_warc(file)
        elif lower.endswith(HTML_ENDINGS):
            yield from self._of_html(file)
        else:
            yield from self._of_rows(file)

    def _of_warc(self, file: str) -> Iterator[Document]:
        empty = True
        try:
            with fsspec.open(file, "rb") as packed:
                for record in ArchiveIterator(_stream(file, packed)):
                    if record.format != "warc":  # warcio takes a line of five words for ARC
                        raise _Fault("not a WARC file")
                    empty = False
                    if (document := self._page(file, record)) is not None:
                        yield document
        except ArchiveLoadFailed as error:
            whole = "non-chunked gzip" in str(error)
            raise _Fault(
                "one gzip stream, not one a record (`warcio recompress` repairs it)"
                if whole
                else "not a WARC file"
                if empty
                else "the rest is broken"
            ) from None
        except (*_BROKEN, AttributeError) as error:  # the latter where warcio misses a header
            raise _Fault(f"the rest is broken ({type(error).__name__})") from None
        if empty:
            raise _Fault("holds no record")

    def _page(self, file: str, record: Any) -> Document | None:
        """The page of a record; the others are counted."""
        if record.rec_type not in ("response", "conversion"):
            self.stat_update("no page: record of another type")
            return None
        headers = record.rec_headers
        http = record.http_headers
        declared = http.get_header("Content-Type") if http else headers.get_header("Content-Type")
        if record.rec_type == "response":
            if http and http.get_statuscode() != "200":
                self.stat_update("no page: status other than 200")
                return None
            kind = headers.get_header("WARC-Identified-Payload-Type") or declared or ""
            if not kind.lower().strip().startswith(_HTML_TYPES):
                self.stat_update("no page: not HTML")
                return None
        raw = record.content_stream().read()
        record.raw_stream.read()
        if record.raw_stream.limit:
            raise _Fault("cut short")
        text = decoded(raw, declared)
        if text is None:
            self.stat_update("unreadable: no encoding fits")
            return None
        return self._document(
            text,
            HTML if record.rec_type == "response" else TEXT,
            headers.get_header("WARC-Record-ID"),
            file,
            headers.get_header("WARC-Target-URI"),
            headers.get_header("WARC-Date"),
        )

    def _of_html(self, file: str) -> Iterator[Document]:
        try:
            with fsspec.open(file, "rb") as packed:
                raw = b"".join(unpacked(file, packed))
        except _BROKEN as error:
            raise _Fault(f"cut short or broken ({type(error).__name__})") from None
        text = decoded(raw)
        if text is None:
            raise _Fault("no encoding fits")
        if (document := self._document(text, HTML, file, file, None, None)) is not None:
            yield document

    def _of_rows(self, file: str) -> Iterator[Document]:
        def drop(fault: SourceError) -> None:
            self._fault(file, fault.reason)

        for where, row in self._rows(file, drop):
            try:
                text = text_in(where, row, self.settings.text_field)
            except SourceError as error:
                drop(error)
                continue
            url, date = (row.get(key) for key in ("url", "date"))
            document = self._document(text, TEXT, str(row.get("id") or where), file, url, date)
            if document is not None:
                yield document

    def _rows(self, file: str, drop: Callable[[SourceError], None]) -> Iterator[Row]:
        if "://" not in file:
            yield from Rows([file]).read(drop)
            return
        with TemporaryDirectory() as folder:
            kept = Path(folder) / PurePosixPath(file).name
            try:
                with fsspec.open(file, "rb") as remote, kept.open("wb") as local:
                    shutil.copyfileobj(remote, local)
            except OSError as error:
                raise _Fault(f"cannot be read ({type(error).__name__})") from None
            source = SourceFile(file, kept.stat().st_size, kept=kept)
            yield from good_items([(False, rows_of(source))], drop)

    def _document(
        self, text: str, kind: str, name: str, file: str, url: object, date: object
    ) -> Document | None:
        if not text.strip():
            self.stat_update("no page: empty")
            return None
        known = {"url": url, "date": date, "file": file, "kind": kind}
        about = {key: str(value) for key, value in known.items() if value}
        return Document(text=text, id=name, metadata=about)


class _Fault(Exception):
    """The rest of a file cannot be read."""


class _Unpacked(io.RawIOBase):
    """Chunks of bytes as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _stream(file: str, packed: IO[bytes]) -> IO[bytes]:
    """What warcio reads: it unpacks gzip itself, record by record."""
    if not file.lower().endswith(".zst"):
        return packed
    return io.BufferedReader(_Unpacked(filter(None, unpacked(file, packed))))
