"""The bytes of a page as text, in the encoding that it says or that is likely."""

import codecs
import re
from collections.abc import Iterator

_META = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([a-z0-9_:.-]{2,40})""", re.IGNORECASE
)
_META_BYTES = 1024  # the HTML standard looks no further
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
          (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
# Pages that claim these are read in their superset, as browsers do (WHATWG Encoding, section 4.2).
_SUPERSETS = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}


def decoded(raw: bytes, content_type: str | None = None) -> str | None:
    """The text of `raw`, or None where no encoding fits.

    Tried in this order: a byte order mark, the HTTP header, a meta element, UTF-8, and last what
    charset_normalizer takes it for.
    """
    for name in _said(raw, content_type):
        try:
            return raw.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    from charset_normalizer import from_bytes

    best = from_bytes(raw).best()
    return None if best is None else str(best)


def _said(raw: bytes, content_type: str | None) -> Iterator[str]:
    yield from (name for mark, name in _MARKS if raw.startswith(mark))
    claims = re.findall(r"charset\s*=\s*[\"']?([\w:.-]+)", content_type or "", re.IGNORECASE)
    claims += [name.decode("ascii") for name in _META.findall(raw[:_META_BYTES])]
    for claim in claims:
        try:
            name = codecs.lookup(claim).name
        except LookupError:
            continue
        yield _SUPERSETS.get(name, name)
    yield "utf-8"
