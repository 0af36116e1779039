"""Web pages and WARC files that the tests of the crawl write themselves."""

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from foundling import hamlet

HTML = "text/html; charset=utf-8"
MENU = "".join(f'<li><a href="/{name}">{name}</a></li>' for name in ("Home", "Shop", "Contact"))


def articles(folder: Path, count: int, seed: int = 5) -> list[str]:
    """Texts of five paragraphs, without the short sentences of which the rules think little."""
    hamlet.write_corpus(folder / "village.jsonl", 12_000 * count, seed=seed)
    lines = (folder / "village.jsonl").read_text().splitlines()
    told = [json.loads(line)["text"] for line in lines]
    fluent = [
        text
        for text in told
        if len(text) > 250 and len(text.split()) > 6 * len(re.findall(r"[^\w\s]", text))
    ]
    assert len(fluent) >= 5 * count
    return ["\n\n".join(fluent[5 * i : 5 * i + 5]) for i in range(count)]


def page(text: str, title: str = "A page") -> str:
    """HTML with a menu and a footer around the text."""
    body = "".join(f"<p>{paragraph}</p>" for paragraph in text.split("\n\n"))
    return (
        f"<!doctype html><html><head><title>{title}</title></head><body>"
        f"<nav><ul>{MENU}</ul></nav><main><article><h1>{title}</h1>{body}</article></main>"
        "<footer>All rights reserved. Terms of use.</footer></body></html>"
    )


def edited(text: str, every: int) -> str:
    """The text with every so many-th word another one."""
    words = text.split(" ")
    words[every // 2 :: every] = ["changed"] * len(words[every // 2 :: every])
    return " ".join(words)


class _Writer(WARCWriter):
    """Keeps in memory what warcio would keep in files that it never closes."""

    _create_temp_file = staticmethod(io.BytesIO)


class Warc:
    """A WARC file of records that are added one by one."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()
        self._writer = _Writer(self._stream, gzip=True)
        self._writer.write_record(self._writer.create_warcinfo_record("test", {"by": "a test"}))

    def add(self, url: str, body: str | bytes, kind: str = HTML, status: str = "200 OK") -> None:
        raw = body.encode() if isinstance(body, str) else body
        headers = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
        self._add(url, "response", raw, headers)

    def add_text(self, url: str, text: str) -> None:
        """A record of a WET file."""
        self._add(url, "conversion", text.encode(), None)

    def _add(self, url: str, of: str, raw: bytes, http: StatusAndHeaders | None) -> None:
        headers = {"WARC-Date": "2026-01-02T03:04:05Z"}
        record = self._writer.create_warc_record(
            url, of, payload=io.BytesIO(raw), http_headers=http, warc_headers_dict=headers,
            warc_content_type="" if http else "text/plain",
        )  # fmt: skip
        self._writer.write_record(record)

    @property
    def raw(self) -> bytes:
        return self._stream.getvalue()


def write_pages(file: Path, pages: Iterable[tuple[str, str]]) -> None:
    """A WARC file of HTML pages."""
    warc = Warc()
    for url, text in pages:
        warc.add(url, page(text))
    file.write_bytes(warc.raw)
