"""Tasks to be learned from examples in the prompt, whatever they come from, in one form."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from foundling.config import ConfigError, Section
from foundling.data.benchmarks import Completion, Item, MultipleChoice, Schema, joined, read_items
from foundling.data.hamlet.games import games
from foundling.data.tasks import Columns, Example, Task, Template, key_of, read_task

SEPARATOR = "\n\n"
CONTENT_FREE = "N/A"
"""Source: Zhao et al. 2021, Calibrate Before Use, section 5."""
LABELS = 20
GAMES = 200


@dataclass(frozen=True)
class Shot:
    """An example with all its possible answers, of which `gold` is right.

    `pairs` are prompt and continuation of each; `neutral` the same continuations where nothing is
    asked, empty where that makes no sense. `key` tells texts apart, but for case and white space.
    """

    pairs: tuple[tuple[str, str], ...]
    gold: int
    key: str
    neutral: tuple[tuple[str, str], ...] = ()

    def told(self, answer: int) -> str:
        """The example as it reads with this answer."""
        return "".join(self.pairs[answer])


@dataclass(frozen=True)
class Asked:
    """An item to be asked, and the examples that may stand before it."""

    id: str
    shot: Shot
    pool: Sequence[Shot]
    opening: str = ""


@dataclass(frozen=True)
class ShotTask:
    """Items of one kind. `in_order`: each item brings examples of its own, to be taken in order."""

    name: str
    items: tuple[Asked, ...]
    separator: str = SEPARATOR
    in_order: bool = False

    @property
    def has_choices(self) -> bool:
        """Whether there is something to choose from; else the likeliest text must be the answer."""
        return len(self.items[0].shot.pairs) > 1


def prompted(item: Asked, shots: Sequence[Shot], answers: Sequence[int], separator: str) -> Asked:
    """The item behind examples with these answers.

    Raises:
        AssertionError: the item's own text is among them.
    """
    assert item.shot.key not in {shot.key for shot in shots}, (
        "an item never stands among its examples"
    )
    lines = [shot.told(answer) for shot, answer in zip(shots, answers, strict=True)]
    front = item.opening + "".join(line + separator for line in lines)
    shot = item.shot
    return replace(
        item,
        shot=replace(
            shot,
            pairs=tuple((front + prompt, after) for prompt, after in shot.pairs),
            neutral=tuple((front + prompt, after) for prompt, after in shot.neutral),
        ),
    )


# ---------------------------------------------------------------------- sources


def village_games(seed: int, count: int = GAMES) -> ShotTask:
    """Games of names of the embedded village."""
    items = []
    for number, game in enumerate(games(seed, count)):
        tasks = [
            Shot(
                tuple((game.front.format(word), " " + name) for name in game.names),
                group,
                f"{word}",
            )
            for word, group in [(game.word, game.gold), *game.examples]
        ]
        items.append(Asked(f"game {number}", tasks[0], tuple(tasks[1:]), game.opening))
    # Games differ in what stands between two lines: it belongs to the line's own text.
    spaced = [
        replace(item, pool=tuple(_ended(shot, game.between) for shot in item.pool))
        for item, game in zip(items, games(seed, count), strict=True)
    ]
    return ShotTask("village games", tuple(spaced), separator="", in_order=True)


def _ended(shot: Shot, mark: str) -> Shot:
    return replace(shot, pairs=tuple((prompt, after + mark) for prompt, after in shot.pairs))


def benchmark(path: Path) -> ShotTask:
    """A file of one of the forms of `read_items`; the examples are other items of the file."""
    return _of_items(path.stem, read_items(path), None)


class TaskFile(Section):
    """`task.toml` of a folder of a user's own, beside `examples` and perhaps `test`."""

    template: str = Template().pattern
    text: str | None = None
    answer: str | None = None
    columns: tuple[str, ...] = ()
    pattern: str | None = None
    labels: dict[str, str] | None = None
    separator: str = SEPARATOR


def task_of(path: Path, seed: int, limit: int) -> ShotTask:
    """A file of one of the forms, a file of labelled texts, or a folder with such files.

    A folder holds `examples.*` to show, `test.*` to ask (without it some of the examples), and,
    where texts are labelled, how they are put in `task.toml`.

    Raises:
        ConfigError: it is nothing of this, or broken.
    """
    if path.is_dir():
        return _folder(path, seed, limit)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file or folder of a task.")
    if path.suffix in (".jsonl", ".json") and _is_form(path):
        return benchmark(path)
    return _of_task(read_task(path, limit=limit, seed=seed), SEPARATOR)


def _folder(path: Path, seed: int, limit: int) -> ShotTask:
    files = {name: sorted(path.glob(f"{name}.*")) for name in ("examples", "test")}
    for name, found in files.items():
        if len(found) > 1 or (not found and name == "examples"):
            there = ", ".join(file.name for file in found) or "none"
            raise ConfigError(
                f"{path}: expected one file {name}.jsonl, .csv or .tsv; found {there}."
            )
    (examples,), tests = files["examples"], files["test"]
    if _is_form(examples):
        if (path / "task.toml").exists():
            raise ConfigError(f"{path}: task.toml says how labelled texts are put; {examples.name} "
                              "holds whole prompts.")  # fmt: skip
        asked = read_items(tests[0]) if tests else None
        return replace(_of_items(path.name, read_items(examples), asked), name=path.name)
    settings = TaskFile()
    if (path / "task.toml").is_file():
        try:
            values = tomllib.loads((path / "task.toml").read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path / 'task.toml'}: {error}.") from None
        settings = TaskFile.parse(values, "task")
    task = read_task(
        examples,
        tests[0] if tests else None,
        columns=Columns(settings.text, settings.answer, settings.columns, settings.pattern),
        labels=settings.labels,
        template=Template(settings.template),
        limit=limit,
        seed=seed,
    )
    return replace(_of_task(task, settings.separator), name=path.name)


def _is_form(path: Path) -> bool:
    """Whether the first row has the keys of a benchmark's form."""
    if path.suffix not in (".jsonl", ".json"):
        return False
    with path.open("rb") as file:
        start = file.readline(2**16)
    return any(key in start for key in (b'"gold"', b'"continuation"'))


def _of_task(task: Task, separator: str) -> ShotTask:
    """Texts with labels, or with short answers."""
    if task.labels is None:
        shots = [[_completion(example, task.template) for example in side]
                 for side in (task.train, task.test)]  # fmt: skip
    else:
        labels = task.labels
        shots = [[_labelled(example, labels, task.template) for example in side]
                 for side in (task.train, task.test)]  # fmt: skip
    pool = tuple(shots[0])
    items = tuple(Asked(f"{task.name} {i}", shot, pool) for i, shot in enumerate(shots[1]))
    return ShotTask(task.name, items, separator)


def _labelled(example: Example, labels: Sequence[str], template: Template) -> Shot:
    def pairs(text: str) -> tuple[tuple[str, str], ...]:
        return tuple((template.prompt(text), template.completion(label)) for label in labels)

    gold = labels.index(example.answer)
    return Shot(pairs(example.text), gold, key_of(example.text), pairs(CONTENT_FREE))


def _completion(example: Example, template: Template) -> Shot:
    pair = (template.prompt(example.text), template.completion(example.answer))
    return Shot((pair,), 0, key_of(example.text))


def _of_items(name: str, shown: Sequence[Item], asked: Sequence[Item] | None) -> ShotTask:
    pool = tuple(_shot(item) for item in shown)
    shots = pool if asked is None else tuple(_shot(item) for item in asked)
    if not shots:
        raise ConfigError(f"{name}: holds no item.")
    items = tuple(Asked(f"{name} {number}", shot, pool) for number, shot in enumerate(shots))
    return ShotTask(name, items)


def _shot(item: Item) -> Shot:
    if isinstance(item, MultipleChoice):
        pairs = tuple(joined(item.query, choice) for choice in item.choices)
        neutral = tuple(joined(_emptied(item.query), choice) for choice in item.choices)
        return Shot(pairs, item.gold, key_of(item.query), neutral)
    if isinstance(item, Schema):
        pairs = tuple(joined(context, item.continuation) for context in item.contexts)
        # Twins differ in the continuation alone: one must not stand before the other.
        return Shot(pairs, item.gold, key_of(item.contexts[0]))
    return Shot((joined(item.context, item.continuation),), 0, key_of(item.context))


def _emptied(query: str) -> str:
    """The query without what it asks: its last word or mark, and the white space behind it."""
    kept = query.rstrip()
    return CONTENT_FREE + " " + kept.rsplit(maxsplit=1)[-1] + query[len(kept) :]


# ---------------------------------------------------------------------- conditions

Answers = Callable[[Random, Sequence[Shot]], list[int]]


def right(rng: Random, shots: Sequence[Shot]) -> list[int]:
    """The right answer of each example."""
    return [shot.gold for shot in shots]


def drawn_by_chance(rng: Random, shots: Sequence[Shot]) -> list[int]:
    """An answer of each example drawn from those it has.

    Source: Min et al. 2022, Rethinking the Role of Demonstrations, section 4.
    """
    return [rng.randrange(len(shot.pairs)) for shot in shots]
