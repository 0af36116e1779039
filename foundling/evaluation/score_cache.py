"""Answers of models kept by content: the same question to the same weights is asked once."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from foundling.base.config import ConfigError
from foundling.evaluation.scorer import Pair, Prompt, Question, Scored, Scorer, TextScore, Writing

AT_ONCE = 1024
"""Pairs that are scored between two writes: the most that an interruption loses."""
WRITTEN_AT_ONCE = 64
SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)"


class ScoreCache:
    """A file of answers by the hash of model, question and way; safe to kill at any time.

    Raises:
        ConfigError: the file is something else.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{path}: no cache of answers: {error}; remove it.") from None

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The answers that are known."""
        found: dict[str, Any] = {}
        for start in range(0, len(keys), 500):
            batch = keys[start : start + 500]
            marks = ",".join("?" * len(batch))
            query = f"SELECT key, answer FROM answers WHERE key IN ({marks})"
            found.update((k, json.loads(a)) for k, a in self._connection.execute(query, batch))
        return found

    def put(self, answers: Sequence[tuple[str, Any]]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)",
                [(key, json.dumps(answer)) for key, answer in answers],
            )

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Remembered:
    """A scorer that asks another one only what the cache does not know.

    `tell` is called with how many requests there are, and with 1 for each that is answered.
    """

    def __init__(
        self,
        scorer: Scorer,
        cache: ScoreCache,
        *,
        tell: Callable[[int, int], None] = lambda asked, answered: None,
    ) -> None:
        self.scorer, self.cache, self.tell = scorer, cache, tell
        self.name, self.fingerprint, self.chats = scorer.name, scorer.fingerprint, scorer.chats

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        def ask(batch: Sequence[Pair]) -> list[Any]:
            return [None if s is None else [s.log_prob, s.num_tokens, s.is_greedy]
                    for s in self.scorer.score(batch)]  # fmt: skip

        keys = [self._key("score", _spelled(prompt), after) for prompt, after in pairs]
        found = self._all(keys, pairs, ask, AT_ONCE)
        return [None if values is None else Scored(*values) for values in found]

    def fits(self, pairs: Sequence[Pair]) -> list[bool]:
        return self.scorer.fits(pairs)

    def token_ends(self, text: str) -> list[int]:
        return self.scorer.token_ends(text)

    def read(self, text: str) -> TextScore:
        def ask(texts: Sequence[str]) -> list[Any]:
            return [vars(self.scorer.read(text)) for text in texts]

        return TextScore(**self._all([self._key("read", text)], [text], ask, 1)[0])

    def generate(self, prompts: Sequence[Prompt], writing: Writing) -> list[list[str] | None]:
        def ask(batch: Sequence[Prompt]) -> list[Any]:
            return list(self.scorer.generate(batch, writing))

        way = [writing.max_tokens, writing.num_samples, writing.sampling.values(), writing.stop]
        keys = [self._key("generate", _spelled(prompt), way) for prompt in prompts]
        return self._all(keys, prompts, ask, WRITTEN_AT_ONCE)

    def once(self, content: Sequence[Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, which JSON can hold; made once for these weights and this content."""
        return self._all([self._key(*content)], [content], lambda _: [make()], 1)[0]

    def _key(self, *content: Any) -> str:
        text = json.dumps([self.fingerprint, *content], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _all(
        self,
        keys: Sequence[str],
        requests: Sequence[Any],
        ask: Callable[[Sequence[Any]], list[Any]],
        at_once: int,
    ) -> list[Any]:
        known = self.cache.get(keys)
        missing = {key: request for key, request in zip(keys, requests, strict=True)
                   if key not in known}  # fmt: skip
        self.tell(len(missing), 0)
        todo = list(missing.items())
        for start in range(0, len(todo), at_once):
            batch = todo[start : start + at_once]
            answers = ask([request for _, request in batch])
            new = [(key, answer) for (key, _), answer in zip(batch, answers, strict=True)]
            self.cache.put(new)
            known.update(new)
            self.tell(0, len(batch))
        return [known[key] for key in keys]


def _spelled(prompt: Prompt) -> list[str]:
    if isinstance(prompt, Question):
        return ["question", prompt.text, *(part for turn in prompt.before for part in turn)]
    return ["text", prompt]
