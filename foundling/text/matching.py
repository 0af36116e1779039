"""Texts that are expected, whatever white space a model writes between their words."""


def skipped(text: str, expected: str) -> int | None:
    """Where the expected text ends, whatever white space there is; None: not yet; -1: another."""
    at = 0
    for character in "".join(expected.split()):
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return None
        if text[at] != character:
            return -1
        at += 1
    return at


def behind(text: str, expected: str) -> str | None:
    """What follows the expected text; empty where it may still come; None: another text."""
    at = skipped(text, expected)
    if at is None:
        return ""
    return text[at:].lstrip() if at >= 0 else None
