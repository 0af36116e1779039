"""Planted minds that learn, know or repeat, what is found of them, and tasks in files."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from planted import Planted, text

from foundling.evaluation.findings import Curve, Findings, Metric
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.probes.in_context.curves import REAL
from foundling.evaluation.probes.in_context.probe import InContext
from foundling.evaluation.scorer import Pair, Scored
from foundling.hamlet import World
from foundling.hamlet.games import RELATIONS
from foundling.hamlet.pair_lists import MADE_UP, word_groups

SHOTS = (0, 4)
GROUP = {word: group for group, words in word_groups().items() for word in words}
WORLD = World()
VALUES = {(f.subject, f.relation): f.value for f in WORLD.facts if f.relation in RELATIONS}
Mind = Callable[[str, str], float]


# ------------------------------------------------------------------ planted minds


def learns_names(prompt: str, after: str) -> float:
    """As likely as words of the asked one's group stand beside this name."""
    words = re.findall(r"\w+", prompt)
    *before, asked = [place for place, word in enumerate(words) if word in GROUP]
    alike = [place for place in before if GROUP[words[place]] == GROUP[words[asked]]]
    named = [next((w for w in words[place + 1 :] if w in MADE_UP), "") for place in alike]
    return named.count(after.strip()) - 100.0


PEOPLE = "|".join(person.name for person in WORLD.people)
ENTRY = re.compile(
    rf"\b({PEOPLE})(?: A|, answer)?(?: →|:| =| is| means| -|) "
    rf"({'|'.join(sorted(map(re.escape, set(VALUES.values())), key=len, reverse=True))})\b"
)


@lru_cache
def relations_in(prompt: str) -> Counter[str]:
    pairs = ENTRY.findall(prompt)
    return Counter(r for s, v in pairs for r in RELATIONS if VALUES.get((s, r)) == v)


def recognises(prompt: str, after: str) -> float:
    """As likely as the relation, in which it is true of the one asked, is that of the list."""
    asked = re.findall(rf"\b({PEOPLE})\b", prompt)[-1]
    found = relations_in(prompt)
    return max(found[r] for r in RELATIONS if VALUES.get((asked, r)) == after.strip()) - 100.0


def repeats_the_last(prompt: str, after: str) -> float:
    return float(prompt.rfind(after.strip())) - 1e6


def repeats_the_first(prompt: str, after: str) -> float:
    found = prompt.find(after.strip())
    return -1e6 if found < 0 else -float(found)


def learns_nouns(prompt: str, after: str) -> float:
    """As likely as the asked noun was answered so."""
    *shown, asked = re.findall(r"The (\w+) \d+\nAnswer:(?: (\w+))?", prompt)
    return sum(one == (asked[0], after.strip()) for one in shown) - 100.0


class Recorder(Planted):
    """Keeps what it is asked."""

    def __init__(self, log_prob: Mind, **options: Any) -> None:
        super().__init__(log_prob, **options)
        self.asked: list[tuple[str, str]] = []

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        self.asked += [(text(prompt), after) for prompt, after in pairs]
        return super().score(pairs)


class Repeating(Planted):
    """Writes a word that it has read before, and none that it has not."""

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        found = []
        for (prompt, after), scored in zip(pairs, super().score(pairs), strict=True):
            is_greedy = f"{after}\n" in text(prompt)
            found.append(scored and Scored(-1.0 if is_greedy else -3.0, 1, is_greedy))
        return found


# ------------------------------------------------------------------ reading findings


def measured(scorer: Planted, **options: Any) -> Findings:
    shared = {key: options.pop(key) for key in Setting.model_fields if key in options}
    probe = InContext(**{"shots": SHOTS, "draws": 2, **options})
    return probe.run(scorer, Setting(**{"limit": 20, **shared}))


def metrics(findings: Findings) -> dict[str, Metric]:
    found = {metric.key: metric for metric in findings.metrics}
    assert len(found) == len(findings.metrics)
    return found


def value(findings: Findings, key: str) -> float:
    found = metrics(findings)[key].estimate
    assert found is not None
    return found.value


def interval(findings: Findings, key: str) -> tuple[float, float]:
    found = metrics(findings)[key].estimate
    assert found is not None
    return found.interval


def curve(findings: Findings, figure: str, name: str = REAL) -> Curve:
    (found,) = (c for c in findings.curves if (c.figure, c.name) == (figure, name))
    return found


def heights(findings: Findings, figure: str, name: str = REAL) -> dict[float, float]:
    return {point.x: point.y for point in curve(findings, figure, name).points}


def csv(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{row},{label}\n" for row, label in rows))
    return path


def nouns(numbers: range) -> list[tuple[str, str]]:
    return [(f"The {('mill', 'pond')[n % 2]} {n}", ("yes", "no")[n % 2]) for n in numbers]


def folder(path: Path, examples: range = range(12), test: range = range(100, 120)) -> Path:
    path.mkdir(exist_ok=True)
    csv(path / "examples.csv", nouns(examples))
    csv(path / "test.csv", nouns(test))
    return path


def nouns_only(mind: Mind) -> Mind:
    """Indifferent to all other tasks."""

    def guarded(prompt: str, after: str) -> float:
        return mind(prompt, after) if re.search(r"The \w+ \d+\nAnswer:$", prompt) else -1.0

    return guarded


def lines(findings: Findings, what: str) -> list[str]:
    return [note for note in findings.notes if what in note]


def fronts(asked: Sequence[tuple[str, str]]) -> Iterator[tuple[list[str], str]]:
    """The examples and the last line of prompts of whole texts, where texts are nouns."""
    for prompt, _ in asked:
        *shown, last = prompt.split("\n\n")
        if re.match(r"\s*The\s+\w+", last, re.I):
            yield shown, last.partition("\nAnswer:")[0]


def jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def completions(numbers: range) -> list[dict[str, str]]:
    return [{"context": f"Ann {n} went to the", "continuation": "mill"} for n in numbers]
