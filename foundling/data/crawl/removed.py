"""What a step removes: a few examples for each reason, the same whatever task saw them."""

import hashlib
import heapq
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatrove.data import Document

from foundling.base import durable

OTHER = "removed"  # the reason of a step that gives none


class Removed:
    """Stands where a datatrove filter takes the writer of what it excludes.

    The examples are those documents whose ids have the smallest hashes: a sample that depends
    neither on the order nor on the number of tasks. Written when the task's step ends.
    """

    def __init__(
        self, folder: Path, count: int, characters: int, masked: Callable[[str], str]
    ) -> None:
        self._folder, self._count, self._characters = folder, count, characters
        self.masked = masked
        self._rank = 0

    def __enter__(self) -> "Removed":
        self._found: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        return self

    def start(self, rank: int) -> None:
        self._rank = rank

    def write(self, document: Document, rank: int = 0) -> None:
        self._rank = rank
        reason = document.metadata.get("filter_reason", OTHER)
        self.keep(reason, document.id, lambda: self.example(document))

    def example(self, document: Document) -> dict[str, str]:
        """What is shown of a document, without personal data."""
        return {
            "where": self.masked(where(document)),
            "text": self.masked(document.text)[: self._characters],  # none is cut in half
        }

    def keep(self, reason: str, key: str, example: Callable[[], dict[str, Any]]) -> None:
        """Keep what `example` makes if its key's hash is among the smallest of its reason."""
        order = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        found = self._found[reason]
        if len(found) < self._count or (found and order < found[-1][0]):
            self._found[reason] = sorted([*found, (order, example())], key=lambda item: item[0])
            del self._found[reason][self._count :]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._found:
            self._folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._found, ensure_ascii=False)
            durable.replace(self._folder / f"{self._rank:05d}.json", text.encode())


def examples(folder: Path, count: int) -> dict[str, list[dict[str, Any]]]:
    """The examples of all tasks, by reason."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for file in sorted(folder.glob("*.json")):
        for reason, some in json.loads(file.read_bytes()).items():
            found[reason] += [(order, example) for order, example in some]
    return {
        reason: [example for _, example in heapq.nsmallest(count, some, key=lambda item: item[0])]
        for reason, some in sorted(found.items())
    }


def where(document: Document) -> str:
    """The address of a page, or the file that it was read from."""
    return str(document.metadata.get("url") or document.metadata.get("file") or document.id)
