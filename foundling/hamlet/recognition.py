"""Recognition: which fact a text asks for, or whom it asks to tell about."""

import re
from collections.abc import Mapping
from functools import lru_cache

from foundling.hamlet.coverage import coverage
from foundling.hamlet.english import capital, finish
from foundling.hamlet.grammar import expand
from foundling.hamlet.instructions import requests_to_tell
from foundling.hamlet.world import World

_STARTS, _ENDS = re.compile(r"\b\w"), re.compile(r"[?.!]")


def recognise(text: str, world: World | None = None) -> dict[str, str]:
    """The text as a row of `prompts`, for `judge`.

    A question is recognised in any phrasing of the table, with any text around it. A text that
    asks for no fact is of kind "other".
    """
    asked = coverage(world)
    row = {"prompt": text, "kind": "other", "fact": "", "subject": ""}
    subject = _told_of(asked.world).get(" ".join(text.split()))
    if subject is not None:
        return {**row, "kind": "tell", "subject": subject}
    ends = [match.end() for match in _ENDS.finditer(text)]
    spans = [
        text[start.start() : end]
        for start in _STARTS.finditer(text)
        for end in ends
        if end > start.start()
    ]
    for span in sorted(spans, key=len, reverse=True):
        facts = asked.truths(capital(span))
        if facts:
            return {**row, "kind": "question", "fact": facts[0].id, "subject": facts[0].subject}
    return row


@lru_cache(maxsize=4)
def _told_of(world: World) -> Mapping[str, str]:
    """The subject of each request to tell."""
    asked = coverage(world)
    return {
        finish(text): subject
        for subject in asked.subjects
        for source in requests_to_tell()
        for text in expand(source, {"x": asked.called(subject)})
    }
