"""Masks e-mail addresses, IP addresses and phone numbers."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator

import phonenumbers
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.formatters.pii import PIIFormatter

from foundling.data.crawl.layout import MASKING
from foundling.data.crawl.settings import PersonalDataSection

# Two or more groups of hexadecimal digits with colons; what is an address, ipaddress decides.
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")


class PersonalData(PipelineStep):
    """datatrove's patterns of e-mail and IPv4 addresses, IPv6, and phone numbers by phonenumbers.

    Phone numbers are those that are valid in their country, as libphonenumber knows them.
    """

    type, name = "FORMAT", MASKING

    def __init__(self, settings: PersonalDataSection) -> None:
        super().__init__()
        self._mask = Masker(settings)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for document in data:
            with self.track_time():
                document.text, counts = self._mask(document.text)
                for kind, count in counts.items():
                    self.stat_update(kind, value=count)
                self.stat_update("total", *(["masked"] if counts else []))
            yield document


class Masker:
    """Text without personal data, and how many of each kind there were."""

    def __init__(self, settings: PersonalDataSection) -> None:
        self.settings = settings
        found = PIIFormatter()
        public_ipv4 = found.ip_replacer.validator
        self._patterns: list[tuple[str, re.Pattern[str], Callable[[str], bool], str]] = []
        if settings.emails:
            pattern = found.emails_replacer.regex
            self._patterns.append(("emails", pattern, lambda _: True, settings.email_mask))
        if settings.ip_addresses:
            pattern = found.ip_replacer.regex
            self._patterns.append(("ip_addresses", pattern, public_ipv4, settings.ipv4_mask))
            self._patterns.append(("ip_addresses", _IPV6, _is_public, settings.ipv6_mask))

    def __call__(self, text: str) -> tuple[str, Counter[str]]:
        counts = Counter[str]()
        for kind, pattern, is_one, mask in self._patterns:
            spans = [m.span() for m in pattern.finditer(text) if m[0] != mask and is_one(m[0])]
            text = _replaced(text, spans, mask)
            counts[kind] += len(spans)
        if self.settings.phone_numbers:
            spans = list(self._phone_numbers(text))
            text = _replaced(text, spans, self.settings.phone_mask)
            counts["phone_numbers"] += len(spans)
        return text, +counts

    def _phone_numbers(self, text: str) -> Iterator[tuple[int, int]]:
        for match in phonenumbers.PhoneNumberMatcher(text, self.settings.phone_region):
            if match.raw_string != self.settings.phone_mask:
                yield match.start, match.end


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _replaced(text: str, spans: list[tuple[int, int]], mask: str) -> str:
    """`text` with `mask` in the place of each span; they are in order and do not overlap."""
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], mask]
        at = end
    return "".join([*parts, text[at:]])
