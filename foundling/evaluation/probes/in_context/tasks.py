"""Tasks to be learned from examples in the prompt: the village's games, benchmarks, own folders."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from foundling.base.config import ConfigError, load_toml
from foundling.data.readers import ROW_READERS
from foundling.data.rows import Rows
from foundling.evaluation.benchmarks import form_of, joined, read_items
from foundling.evaluation.few_shot import (
    CONTENT_FREE,
    SEPARATOR,
    Asked,
    Shot,
    ShotTask,
    shot_task,
)
from foundling.evaluation.items import Item, MultipleChoice, Schema
from foundling.evaluation.tasks import TaskSettings, key_of, read_task
from foundling.hamlet import World
from foundling.hamlet.games import Entry, Game, games_of_names, registers


def village_games(seed: int, count: int) -> list[ShotTask]:
    """The embedded village's lists, which need no file."""
    return [
        _of_games("names", "Games of names", games_of_names(seed, count)),
        _of_games("registers", "Registers of the village", registers(World(), seed, count)),
    ]


def _of_games(name: str, title: str, games: Sequence[Game]) -> ShotTask:
    items = tuple(
        Asked(
            f"{name} {number}",
            _entry(game, game.asked, ""),
            tuple(_entry(game, entry, game.between) for entry in game.examples),
            game.opening,
        )
        for number, game in enumerate(games)
    )
    return ShotTask(name, title, items, separator="", has_own_pools=True)


def _entry(game: Game, entry: Entry, end: str) -> Shot:
    def pairs(word: str) -> tuple[tuple[str, str], ...]:
        return tuple((game.front.format(word), f" {answer}{end}") for answer in entry.answers)

    return Shot(pairs(entry.word), entry.gold, entry.word, pairs(CONTENT_FREE))


def benchmark(path: Path) -> ShotTask:
    """A file of one of the forms of `read_items`; the examples are other items of the file."""
    notes: list[str] = []
    return replace(_of_items(path.stem, read_items(path, notes)), notes=tuple(notes))


class TaskFile(TaskSettings):
    """`task.toml` of a user's folder, beside `examples` and perhaps `test`."""

    separator: str = SEPARATOR
    """What stands between examples."""


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
    if _is_form(path):
        return benchmark(path)
    return shot_task(read_task(path, limit=limit, seed=seed))


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
            raise ConfigError(
                f"{path}: task.toml says how labelled texts are put, but {examples.name} holds "
                "whole prompts; remove one of the two."
            )
        notes: list[str] = []
        asked = read_items(tests[0], notes) if tests else None
        task = _of_items(path.name, read_items(examples, notes), asked)
        return replace(task, notes=tuple(notes))
    settings = TaskFile()
    if (path / "task.toml").is_file():
        settings = TaskFile.parse(load_toml(path / "task.toml"), "task")
    test = tests[0] if tests else None
    labelled = read_task(examples, test, settings, limit=limit, seed=seed)
    return replace(shot_task(labelled, settings.separator), name=path.name, title=path.name)


def _is_form(path: Path) -> bool:
    """Whether the first row has the keys of a benchmark's form."""
    if not path.name.lower().endswith(tuple(ROW_READERS)):
        return False
    return any(form_of(row) is not None for _, row in islice(Rows([path]), 1))


def _of_items(name: str, shown: Sequence[Item], asked: Sequence[Item] | None = None) -> ShotTask:
    pool = tuple(_shot(item) for item in shown)
    shots = pool if asked is None else tuple(_shot(item) for item in asked)
    if not shots:
        raise ConfigError(f"{name}: holds no item.")
    items = tuple(Asked(f"{name} {number}", shot, pool) for number, shot in enumerate(shots))
    return ShotTask(name, name, items)


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
    """The query without what it asks; of a sentence to be continued the last word remains."""
    kept = query.rstrip()
    word = kept.rsplit(maxsplit=1)[-1]
    goes_on = kept == query and not word.endswith((".", "?", "!"))
    return (f"{CONTENT_FREE} {word}" if goes_on else CONTENT_FREE) + query[len(kept) :]
