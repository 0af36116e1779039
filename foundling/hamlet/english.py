"""English: the small rules of writing (articles, capitals, plurals, numbers, lists)."""

import re
from collections.abc import Sequence

_ARTICLE = re.compile(r"\b([Aa])(?= (?!one\b|once\b|us[eu]|uni|ewe)(?:[aeiouAEIOU]|hour|honest))")
_CAPITAL = re.compile(r'(?:^|(?<=[.!?] )|(?<=, )(?="))("?)([a-z])', re.MULTILINE)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONES = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = _words("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
_PLURALS = {
    "goose": "geese",
    "sheep": "sheep",
    "mouse": "mice",
    "calf": "calves",
    "loaf": "loaves",
    "leaf": "leaves",
    "knife": "knives",
    "child": "children",
    "foot": "feet",
    "man": "men",
    "woman": "women",
    "potato": "potatoes",
    "fish": "fish",
}


def _capital(match: re.Match[str]) -> str:
    return match[1] + match[2].upper()


def finish(text: str) -> str:
    """The text with "a" and "an" corrected, and capitals at the start of sentences and speech."""
    return _CAPITAL.sub(_capital, _ARTICLE.sub(r"\1n", text))


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def number(n: int) -> str:
    """A number below one hundred in words.

    >>> number(42)
    'forty-two'
    """
    if n < 20:
        return _ONES[n]
    tens, ones = divmod(n, 10)
    return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")


def plural(noun: str) -> str:
    """The plural of a noun of the village's vocabulary."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def listing(items: Sequence[str]) -> str:
    """Items as a written list.

    >>> listing(["salt", "eggs", "tea"])
    'salt, eggs and tea'
    """
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]
