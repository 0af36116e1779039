"""Items of common sense as choices: schemas with their twins, causes and effects, handiwork."""

from collections.abc import Sequence
from pathlib import Path

from foundling.evaluation.benchmarks import (
    joined,
    read_balanced_copa,
    read_choices,
    read_schemas,
    twins,
)
from foundling.evaluation.choices import Choice, clustered
from foundling.evaluation.items import MultipleChoice
from foundling.hamlet import WinogradPair, World, winograd_pairs

WSC = "bench/winograd_wsc.jsonl"
COPA = "bench/copa.jsonl"
PIQA = "bench/piqa.jsonl"
BALANCED_COPA = "bench/balanced_copa.xml"


def wsc(path: Path, notes: list[str] | None = None) -> list[list[Choice]]:
    """The schemas of a file, those together that are twins."""
    schemas = read_schemas(path, notes)
    groups = []
    for indices in twins(schemas):
        group = []
        for index in indices:
            schema = schemas[index]
            pairs = tuple(joined(context, schema.continuation) for context in schema.contexts)
            group.append(Choice(f"wsc/{index}", pairs, schema.gold, group=f"wsc/{indices[0]}"))
        groups.append(group)
    return _clustered(groups)


def _clustered(groups: Sequence[Sequence[Choice]]) -> list[list[Choice]]:
    """The same, with one group for all that have an item in common."""
    flat = iter(clustered([item for group in groups for item in group]))
    return [[next(flat) for _ in group] for group in groups]


def copa(path: Path, notes: list[str] | None = None) -> list[Choice]:
    """Causes and effects; the neutral prompt is the last word, "because" or "therefore"."""
    items = enumerate(read_choices(path, notes))
    return clustered([causal(f"copa/{index}", item) for index, item in items])


def piqa(path: Path, notes: list[str] | None = None) -> list[Choice]:
    """Ways to do a thing, as answers to a question."""
    items = []
    for index, item in enumerate(read_choices(path, notes)):
        query = item.query.rstrip()
        prompt = query if query.endswith("\nAnswer:") else f"{query}\nAnswer:"
        pairs = tuple(joined(prompt, choice) for choice in item.choices)
        neutral = tuple(joined("Question:\nAnswer:", choice) for choice in item.choices)
        items.append(Choice(f"piqa/{index}", pairs, item.gold, neutral=neutral))
    return clustered(items)


def mirrored_copa(path: Path) -> list[list[Choice]]:
    """Items and their mirrors, which have the same alternatives in the same order."""
    groups = []
    for index, both in enumerate(read_balanced_copa(path)):
        name = f"balanced_copa/{index}"
        sides = zip(("item", "mirror"), both, strict=True)
        groups.append([causal(f"{name}/{side}", item, name) for side, item in sides])
    return _clustered(groups)


def causal(id: str, item: MultipleChoice, group: str = "") -> Choice:
    """An item whose prompt ends in the word that asks for a cause or an effect."""
    word = item.query.split()[-1]
    pairs = tuple(joined(item.query, choice) for choice in item.choices)
    neutral = tuple(joined(word, choice) for choice in item.choices)
    return Choice(id, pairs, item.gold, group, neutral)


def village_twins(world: World, *, held_out: bool | None = None) -> list[list[Choice]]:
    """The village's Winograd sentences with their twins; of one schema they are one group.

    Args:
        held_out: those of schemas that the corpus has (False) or has not (True); None: all.
    """
    pairs = winograd_pairs(world)
    groups = []
    for start in range(0, len(pairs), 2):
        both = pairs[start : start + 2]
        if held_out in (None, both[0].held_out):
            groups.append([_village(start + index, pair) for index, pair in enumerate(both)])
    return groups


def _village(number: int, pair: WinogradPair) -> Choice:
    readings = tuple((pair.before + candidate, pair.after) for candidate in pair.candidates)
    gold = pair.candidates.index(pair.answer)
    return Choice(f"village_winograd/{number}", readings, gold, group=pair.schema)
