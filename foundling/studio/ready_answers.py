"""Pairs of answers that stand ready in two files, and gold pairs of a third."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from foundling.chat import Conversation, Message, check_roles
from foundling.config import ConfigError
from foundling.data.faults import SourceError
from foundling.data.formats import RowError, messages_of
from foundling.data.rows import Rows
from foundling.preferences.importing import read_preferences
from foundling.preferences.records import Answer, Pair

ANSWERS = ("answer", "completion", "response")  # any of these columns holds the answer


class ReadyAnswers:
    """The answers of two files to the same prompts, in the order of the first file.

    What one file alone answers is counted and told, never dropped unsaid.

    Raises:
        ConfigError: a file cannot be read, or no prompt has an answer in both.
    """

    def __init__(
        self, a: Path, b: Path, *, prompts: Path | None = None, say: Callable[[str], None]
    ) -> None:
        if a.resolve() == b.resolve():
            raise ConfigError(f"{a}: is both A and B; give two different files.")
        first, second = read_answers(a), read_answers(b)
        wanted = read_prompts(prompts) if prompts is not None else list(first)
        self._pairs = [
            Pair(prompt, first[prompt], second[prompt], prompt_source=(prompts or a).name)
            for prompt in wanted
            if prompt in first and prompt in second
        ]
        if not self._pairs:
            raise ConfigError(f"{a} and {b}: no prompt has an answer in both.")
        known = set(wanted)
        for path, answers in ((a, first), (b, second)):
            if missing := known - set(answers):
                say(f"warning: {path}: no answer to {len(missing):,} prompts; they are left out.")
            if beyond := set(answers) - known:
                where = "a file of prompts" if prompts is not None else "A"
                say(f"warning: {path}: {len(beyond):,} answers to prompts that {where} has not.")

    def pairs(self) -> Iterator[Pair]:
        yield from self._pairs


def read_answers(path: Path) -> dict[Conversation, Answer]:
    """The answers of a file by their prompts; its name is their source."""
    found: dict[Conversation, Answer] = {}
    for where, row in _rows(path):
        name = next((name for name in ANSWERS if isinstance(row.get(name), str)), None)
        if name is None:
            raise ConfigError(f"{where}: no text in any of the columns {', '.join(ANSWERS)}.")
        prompt = _prompt(where, row)
        if prompt in found:
            raise ConfigError(f"{where}: the prompt has an answer already; give each prompt once.")
        found[prompt] = Answer(row[name], path.name)
    return found


def read_prompts(path: Path) -> list[Conversation]:
    """The prompts of a file, each once."""
    return list(dict.fromkeys(_prompt(where, row) for where, row in _rows(path)))


def gold_pairs(path: Path, seed: int = 0) -> list[Pair]:
    """Pairs whose better answer is known: any file of preferences, chosen against rejected."""
    found, _ = read_preferences([path])
    pairs = []
    for _, given in found:
        chosen, rejected = Answer(given.chosen, "gold"), Answer(given.rejected, "gold")
        swap = random.Random(f"{seed}/{given.prompt}/{given.chosen}").random() < 0.5
        a, b = (rejected, chosen) if swap else (chosen, rejected)
        pairs.append(Pair(given.prompt, a, b, prompt_source=path.name, gold="B" if swap else "A"))
    return pairs


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for found in Rows([path]):
        if isinstance(found, SourceError):
            raise found
        yield found


def _prompt(where: str, row: dict[str, Any]) -> Conversation:
    given = row.get("prompt", row.get("messages"))
    try:
        if isinstance(given, str):
            messages: Sequence[Message] = (Message("user", given),)
        else:
            messages = messages_of(given, "prompt")
        check_roles(messages, training=False)
    except (RowError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return tuple(messages)
