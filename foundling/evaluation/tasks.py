"""A task with labelled examples, as it is learned and tested: read, split and put into words."""

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import field_validator

from foundling.base.config import ConfigError, Section
from foundling.base.runtime import derive_seed
from foundling.data.readers.fields import Row
from foundling.data.readers.source_file import read_text
from foundling.data.rows import Rows
from foundling.data.source_errors import SourceError
from foundling.evaluation.native_labels import as_published

TEXT_NAMES = ("text", "sentence", "question", "input", "query")
ANSWER_NAMES = ("label", "answer", "target", "output")
MAX_LABELS = 20
"""A task with more different answers has short answers, not classes."""
TEST_SHARE = 1 / 3
"""The largest share that is split off for the test where no file for it is given."""
TEMPLATE = "{text}\nAnswer: {answer}"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Example:
    text: str
    answer: str


@dataclass(frozen=True)
class Template:
    """How an example reads: a prompt that ends where the answer begins, then the answer.

    The answer has the spaces before it: "{text}\\nAnswer: {answer}" gives "…\\nAnswer:" and " yes".

    Raises:
        ConfigError: `{text}` and `{answer}` do not stand in it once each, `{answer}` at the end.
    """

    pattern: str = TEMPLATE

    def __post_init__(self) -> None:
        once = self.pattern.count("{text}") == 1 == self.pattern.count("{answer}")
        if not once or not self.pattern.endswith("{answer}"):
            raise ConfigError(
                f'template = "{self.pattern}": it must hold {{text}} once, and end with {{answer}}.'
            )

    def prompt(self, text: str) -> str:
        front = self.pattern.removesuffix("{answer}").rstrip(" ")
        return front.replace("{text}", text)

    def completion(self, answer: str) -> str:
        front = self.pattern.removesuffix("{answer}")
        return " " * (len(front) - len(front.rstrip(" "))) + answer


class TaskSettings(Section):
    """How labelled texts are read and prompted: `task.toml` of a folder, `[task]` of adapt."""

    template: str = TEMPLATE
    text: str | None = None
    """The column of the text; None: inferred from names or values."""
    answer: str | None = None
    columns: tuple[str, ...] = ()
    """The names of the columns of a file that has no header."""
    pattern: str | None = None
    """A regular expression for the lines of a .txt file, with groups that are the columns."""
    labels: dict[str, str] | None = None
    """The word for each answer of the file, which makes it a classification."""

    @field_validator("labels", mode="before")
    @classmethod
    def _parsed(cls, given: object) -> object:
        return parse_labels(given) if isinstance(given, str) else given

    @property
    def is_inferred(self) -> bool:
        """Whether nothing is said of where text and answer stand in the file."""
        return not any((self.text, self.answer, self.columns, self.pattern))


AS_FOUND = TaskSettings()
"""Columns are inferred from their names or values."""


@dataclass(frozen=True)
class Task:
    """Examples to learn from and others to be tested on; no text stands on both sides."""

    name: str
    labels: tuple[str, ...] | None
    """The answers there are; None: any short answer."""
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    template: Template = Template()
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was found, split and left out, in words."""

    @property
    def chance(self) -> float:
        """The accuracy of guessing among the labels."""
        return 1 / len(self.labels) if self.labels else 0.0

    @property
    def majority(self) -> float:
        """The accuracy of always giving the most common answer of the training examples."""
        answers = Counter(example.answer for example in self.train)
        most = max(answers, key=lambda answer: (answers[answer], answer))
        return sum(example.answer == most for example in self.test) / len(self.test)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that is learned and asked, and how it is put."""
        sides = [[(e.text, e.answer) for e in side] for side in (self.train, self.test)]
        content = [self.labels, self.template.pattern, *sides]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def draw(self, count: int, *seeds: int) -> tuple[Example, ...]:
        """`count` training examples in an order; the first of a larger draw are a smaller one.

        Raises:
            ConfigError: there are not so many.
        """
        if not 0 <= count <= len(self.train):
            raise ConfigError(f"{count} examples: the task has {len(self.train):,} to learn from.")
        return tuple(drawn(self.train, *seeds)[:count])


def drawn(items: Sequence[Item], *seeds: int) -> list[Item]:
    """The items in an order drawn by the seeds: the first of a larger draw are a smaller one."""
    order = sorted(range(len(items)), key=lambda index: derive_seed(*seeds, "draw", index))
    return [items[index] for index in order]


def read_task(
    path: Path,
    test: Path | None = None,
    how: TaskSettings = AS_FOUND,
    *,
    limit: int = 200,
    seed: int = 1,
) -> Task:
    """A task from a file of labelled examples.

    It is a classification where at most MAX_LABELS different answers occur, each twice on average.

    Args:
        test: the file of the test items; None: some of `path`, texts that are not learned from.
        limit: the most test items, chosen by the seed with the shares of the labels as they are.

    Raises:
        ConfigError: a row cannot be understood, or nothing is left to learn from or to test on.
    """
    if limit < 1:
        raise ConfigError(f"limit = {limit}: at least 1 test item is needed.")
    notes: list[str] = []
    if path.is_file() and how.is_inferred:
        published = as_published(path)
        how = how.model_copy(update={**published, "labels": how.labels or published.get("labels")})
    template, labels = Template(how.template), how.labels
    learned = _examples(path, how, notes)
    if test is None:
        learned, asked = _split(learned, min(limit, math.floor(TEST_SHARE * len(learned))), seed)
        notes.append(f"{len(asked):,} of {path.name} held out for the test, by text")
    else:
        asked = _examples(test, how, notes)
        known = {key_of(example.text) for example in asked}
        kept = [example for example in learned if key_of(example.text) not in known]
        if len(kept) < len(learned):
            notes.append(f"left out {len(learned) - len(kept):,} to learn from: asked in the test")
        learned = kept
    if not learned or not asked:
        raise ConfigError(f"{path}: nothing is left to {'test on' if learned else 'learn from'}.")
    if labels is not None:
        learned, asked = (_worded(side, labels, path) for side in (learned, asked))
    found = _labels([*learned, *asked], given=labels is not None)
    if found is not None and len(found) < 2:
        raise ConfigError(f'{path}: every answer is "{found[0]}"; there is nothing to tell apart.')
    chosen = _limited(asked, limit, seed, by_answer=found is not None)
    if len(chosen) < len(asked):
        notes.append(f"{len(chosen):,} of {len(asked):,} test items chosen by the seed")
    kind = f"classification: {', '.join(found)}" if found else "short answers"
    notes.append(f"{kind}; {len(learned):,} to learn from, {len(chosen):,} to test on")
    return Task(path.stem, found, tuple(learned), tuple(chosen), template, tuple(notes))


def key_of(text: str) -> str:
    """The text without case and extra white space, however its accents are composed."""
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()


def parse_labels(text: str) -> dict[str, str]:
    """The words in `0=negative,1=positive`.

    Raises:
        ConfigError: it is not of this form, or two answers have one word.
    """
    pairs = [item.partition("=") for item in text.split(",")]
    words = {answer.strip(): word.strip() for answer, _, word in pairs}
    whole = all(equals and answer.strip() and word.strip() for answer, equals, word in pairs)
    if not whole or len(words) < len(pairs) or len(set(words.values())) < len(pairs):
        raise ConfigError(f'labels = "{text}": expected ANSWER=WORD,ANSWER=WORD,... all different.')
    return words


def without(task: Task, examples: Collection[Example], why: str) -> Task:
    """The task without some of its examples.

    Raises:
        ConfigError: nothing is left to learn from or to test on.
    """
    train, test = (
        tuple(example for example in side if example not in examples)
        for side in (task.train, task.test)
    )
    left_out = len(task.train) - len(train), len(task.test) - len(test)
    if not any(left_out):
        return task
    note = f"left out {left_out[0]:,} to learn from and {left_out[1]:,} to test on: {why}"
    if not train or not test:
        raise ConfigError(f"{task.name}: {note}; nothing remains.")
    return replace(task, train=train, test=test, notes=(*task.notes, note))


# ---------------------------------------------------------------------- reading


def _examples(path: Path, how: TaskSettings, notes: list[str]) -> list[Example]:
    rows = list(_named(path, how))
    text, answer = _choose(path, rows, how)
    notes.append(f'{path.name}: {len(rows):,} rows, text in "{text}", answer in "{answer}"')
    return [Example(_value(where, row, text), _value(where, row, answer)) for where, row in rows]


def _named(path: Path, how: TaskSettings) -> Iterator[Row]:
    if how.pattern is not None:
        yield from _lines(path, how.pattern)
        return
    if path.suffix == ".txt":
        raise ConfigError(
            f"{path}: plain lines; say by a pattern what of them is text and answer, such as "
            r'"(?P<label>\w+):\S+ (?P<text>.*)".'
        )
    first = True
    for where, row in Rows([path]):
        if how.columns:
            if len(how.columns) != len(row):
                raise ConfigError(
                    f"{where}: {len(row)} columns, but {len(how.columns)} names for them "
                    f"({', '.join(how.columns)})."
                )
            if first:  # read as the header
                yield f"{path}:1", dict(zip(how.columns, row, strict=True))
            row = dict(zip(how.columns, row.values(), strict=True))
        first = False
        yield where, row


def _lines(path: Path, pattern: str) -> Iterator[Row]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f'pattern = "{pattern}": no regular expression: {error}.') from None
    if not compiled.groupindex:
        raise ConfigError(f'pattern = "{pattern}": names no group, such as (?P<text>.*).')
    lines = read_text(path).split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = compiled.fullmatch(line.strip())
        if found is None:
            raise ConfigError(f'{path}:{number}: the line does not match "{pattern}".')
        yield f"{path}:{number}", found.groupdict()


def _choose(path: Path, rows: Sequence[Row], how: TaskSettings) -> tuple[str, str]:
    """The names of the columns of text and answer."""
    keys = list(dict.fromkeys(key for _, row in rows for key in row))
    for given in (how.text, how.answer):
        if given is not None and given not in keys:
            raise ConfigError(f'{path}: no column "{given}"; it has: {", ".join(keys)}.')
    text = how.text or _only(keys, TEXT_NAMES, {how.answer})
    answer = how.answer or _only(keys, ANSWER_NAMES, {text})
    if len(keys) == 2 and (text is None) != (answer is None):
        other = next(key for key in keys if key not in (text, answer))
        text, answer = text or other, answer or other
    if text is None and answer is None and len(keys) == 2:
        few = [key for key in keys if _few([str(row.get(key)) for _, row in rows])]
        if len(few) == 1:
            answer = few[0]
            text = next(key for key in keys if key != answer)
    if text is None or answer is None or text == answer:
        raise ConfigError(
            f"{path}: which of its columns ({', '.join(key[:30] for key in keys)}) is the text and "
            "which the answer? Name both, or all columns if the file has no header."
        )
    return text, answer


def _only(keys: Sequence[str], names: Sequence[str], taken: set[str | None]) -> str | None:
    found = [key for key in keys if key.casefold() in names and key not in taken]
    return found[0] if len(found) == 1 else None


def _value(where: str, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    if not isinstance(value, str):
        kind = "missing" if value is None else f"a {type(value).__name__}"
        raise SourceError("not a text", f'{where}: "{name}" is {kind}, not a text or a number.')
    if not value.strip():
        raise SourceError("empty text", f'{where}: "{name}" is empty.')
    return value.strip()


# ---------------------------------------------------------------------- splitting


def _few(answers: Sequence[str]) -> bool:
    different = len(set(answers))
    return different <= MAX_LABELS and 2 * different <= len(answers)


def _labels(examples: Sequence[Example], *, given: bool) -> tuple[str, ...] | None:
    answers = [example.answer for example in examples]
    return tuple(sorted(set(answers))) if given or _few(answers) else None


def _worded(examples: Sequence[Example], labels: Mapping[str, str], path: Path) -> list[Example]:
    unknown = sorted({example.answer for example in examples} - set(labels))
    if unknown:
        raise ConfigError(
            f'{path}: the answer "{unknown[0]}" has no word; labels has {", ".join(labels)}.'
        )
    return [Example(example.text, labels[example.answer]) for example in examples]


def _split(
    examples: Sequence[Example], wanted: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split into training and test examples; copies of a text stay on one side."""
    sizes = Counter(key_of(example.text) for example in examples)
    held_out, count = set[str](), 0
    for key in sorted(sizes, key=lambda key: derive_seed(seed, "test", key)):
        if count + sizes[key] <= wanted:
            held_out.add(key)
            count += sizes[key]
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[key_of(example.text) in held_out].append(example)
    return sides


def _limited(
    examples: Sequence[Example], limit: int, seed: int, *, by_answer: bool
) -> list[Example]:
    """At most `limit`, in their order, each answer's share as near as it can be."""
    indices: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        indices.setdefault(example.answer if by_answer else "", []).append(index)
    share = min(1.0, limit / len(examples))
    counts = {answer: math.floor(share * len(of)) for answer, of in indices.items()}
    rest = sorted(
        indices, key=lambda answer: (counts[answer] - share * len(indices[answer]), answer)
    )
    for answer in rest[: min(limit, len(examples)) - sum(counts.values())]:
        counts[answer] += 1

    def drawn(answer: str) -> list[int]:
        order = sorted(indices[answer], key=lambda index: derive_seed(seed, "limit", index))
        return order[: counts[answer]]

    return [examples[index] for index in sorted(chain.from_iterable(map(drawn, indices)))]
