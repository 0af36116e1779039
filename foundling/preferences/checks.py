"""Checks of what goes into the preference store."""

import re
import unicodedata

from foundling.base.config import ConfigError, suggest
from foundling.preferences.records import KINDS, RATINGS, STRENGTHS, VERDICTS, Kind, Pair, Vote
from foundling.text.chat import check_roles

_UNSHOWABLE = re.compile("[\0\ud800-\udfff]")


class Conflict(ConfigError):
    """What is asked contradicts what the store holds."""


def check_text(name: str, text: str) -> None:
    """Refuse text that no page can show and no file in UTF-8 can hold.

    Raises:
        ConfigError: it holds a NUL character or half of a surrogate pair.
    """
    found = _UNSHOWABLE.search(text)
    if found is not None:
        what = "a NUL character" if found[0] == "\0" else "half of a surrogate pair"
        raise ConfigError(
            f"{name}: {what} (U+{ord(found[0]):04X}) at character {found.start()} of the text."
        )


def unicode(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, so that any page can show it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def check_pair(pair: Pair) -> None:
    """Refuse a pair whose prompt, gold verdict or propensity are invalid.

    Raises:
        ConfigError: what is wrong with it.
    """
    check_roles(pair.prompt, training=False)
    allowed = [verdict for verdict in VERDICTS if verdict != "skip"]
    if pair.gold is not None and pair.gold not in allowed:
        raise ConfigError(
            f'gold = "{pair.gold}": no such gold verdict {suggest(pair.gold, allowed)}'
        )
    if not 0 < pair.propensity <= 1:
        raise ConfigError(f"propensity = {pair.propensity}: must be above 0 and at most 1.")
    for answer in (pair.a, pair.b):
        if not answer.source:
            raise ConfigError("source is empty: name the model or file of each answer.")


def check_name(name: str) -> None:
    """Refuse an annotator's name that cannot be printed.

    Raises:
        ConfigError: it is blank or holds what cannot be printed.
    """
    if not name.strip() or not name.isprintable():
        raise ConfigError(f"annotator {name!r}: give a name of printable characters.")


def same_name(name: str) -> str:
    """What two names of one person have in common: "Ann" and " ann" are the same annotator."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_kind(kind: Kind) -> None:
    """Refuse an unknown kind of item.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f'kind = "{kind}": no such kind {suggest(kind, KINDS)}')


def check_vote(vote: Vote, kind: Kind | None = None) -> None:
    """Refuse a vote that says nothing, too much, or, where it is known, not what `kind` asks.

    Raises:
        ConfigError: what is wrong with it.
    """
    if not vote.key:
        raise ConfigError("key is empty: vote with the key of a leased item.")
    if vote.verdict is not None and vote.verdict not in VERDICTS:
        raise ConfigError(
            f'verdict = "{vote.verdict}": no such verdict {suggest(str(vote.verdict), VERDICTS)}'
        )
    if vote.ratings is not None and (
        len(vote.ratings) != 2 or any(rating not in RATINGS for rating in vote.ratings)
    ):
        raise ConfigError(f"ratings = {vote.ratings}: give two from 1 to 7, of answers A and B.")
    if (vote.verdict is None) == (vote.ratings is None):
        raise ConfigError("the vote must have either a verdict or ratings, not both and not none.")
    if vote.strength is not None and vote.strength not in STRENGTHS:
        raise ConfigError(f"strength = {vote.strength}: give 1, 2 or 3, or none.")
    if vote.strength is not None and vote.verdict not in ("A", "B"):
        raise ConfigError('strength: only a verdict "A" or "B" has one.')
    if vote.milliseconds is not None and vote.milliseconds < 0:
        raise ConfigError(f"milliseconds = {vote.milliseconds}: must not be below 0.")
    if kind == "comparison" and vote.verdict is None:
        raise ConfigError("the item is a comparison: give a verdict.")
    if kind == "rating" and vote.ratings is None and vote.verdict != "skip":
        raise ConfigError('the item is to be rated: give ratings, or the verdict "skip".')
