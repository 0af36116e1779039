"""Calls whose arguments are no JSON object: XML elements, or Python's keyword arguments."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CLOSING_TAG = re.compile(r"\s*</[^<>]+>\s*")


@dataclass(frozen=True)
class Spelling:
    """How the arguments of a call are spelled: (`opens` key `equals` value `closes`)*, with
    `separator` between two.

    As XML a text stands as it is, and any other value as JSON; as Python every value is a literal.
    """

    opens: str
    equals: str
    closes: str
    separator: str
    is_python: bool

    @property
    def texts(self) -> tuple[str, ...]:
        return self.opens, self.equals, self.closes, self.separator


@dataclass(frozen=True)
class SpelledCall:
    """A call as a template spells it: `before` name `middle` arguments `after`."""

    before: str
    middle: str
    spelling: Spelling
    after: str


def spelled_call(bare: str, given: str, name: str, arguments: Mapping[str, Any]) -> (
    SpelledCall | None
):  # fmt: skip
    """How a call is spelled; None: in neither form.

    Args:
        bare: what a template writes of a call of `name` without arguments.
        given: and with these: the first is a text, the second a number.
    """
    (first, text), (second, number) = arguments.items()
    pattern = "(.*?)".join(map(re.escape, (name, first, text, second, str(number))))
    found = re.fullmatch(f"(?s)(.*?){pattern}(.*)", given)
    if found is None or not found[1].strip():  # without a word before it, any text might be a call
        return None
    before, begins, equals, goes_on, equals_number, ends = found.groups()
    if not bare.startswith(before + name):
        return None
    quote = equals[len(equals_number) :] if equals.startswith(equals_number) else None
    is_python = equals_number.strip() == "=" and quote in ('"', "'")
    if is_python:
        if not goes_on.startswith(str(quote)):
            return None
        goes_on = goes_on[1:]
    elif equals != equals_number:
        return None
    behind = bare[len(before + name) :]
    pairs = enumerate(zip(begins, behind, strict=False))
    length = next((at for at, (one, other) in pairs if one != other), len(begins))
    middle = begins[:length].rstrip("<")
    opens, after = begins[len(middle) :], behind[len(middle) :]
    closes = ends.removesuffix(after)
    if not ends.endswith(after) or not goes_on.startswith(closes) or not goes_on.endswith(opens):
        return None
    separator = goes_on[len(closes) : len(goes_on) - len(opens)]
    if is_python:
        is_known = middle.strip() == "(" and after.lstrip().startswith(")")
        is_known &= not (opens + closes).strip() and separator.strip() == ","
    else:
        is_known = bool(_CLOSING_TAG.fullmatch(closes)) and not separator.strip()
        is_known &= bool(opens.strip() and equals.strip() and after.strip())
    if not is_known:
        return None
    return SpelledCall(
        before, middle, Spelling(opens, equals_number, closes, separator, is_python), after
    )
