"""Gold pairs, whose better answer is known: mixed in to measure the annotators' accuracy."""

import logging
from pathlib import Path

from foundling.preferences.importing import as_shown, read_preferences
from foundling.preferences.records import Pair

log = logging.getLogger(__name__)


def gold_pairs(path: Path, seed: int = 0) -> list[Pair]:
    """The pairs of any file of preferences, chosen against rejected; `seed` draws which is A.

    Raises:
        ConfigError: the file cannot be read or has no format that is known.
    """
    found, report = read_preferences([path], skip="")
    for line in report.lines():
        log.info("gold items: %s", line)
    pairs = []
    for given in found:
        texts = "/".join(message.content for message in given.prompt)
        key = f"{seed}/{texts}/{given.chosen[-1].content}"
        a, b, better = as_shown(given, ("gold", "gold"), key)
        pairs.append(Pair(given.prompt, a, b, prompt_source=path.name, gold=better))
    return pairs
