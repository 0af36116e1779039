"""What a probe is: a name, what it needs, and a function from a scorer to findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol, TypeVar, runtime_checkable

from foundling.evaluation.findings import Findings
from foundling.evaluation.scorer import Scorer

Item = TypeVar("Item")


@dataclass(frozen=True)
class Setting:
    """What the user gave beside the model.

    Args:
        data_root: the folder with files of known names, such as bench/copa.jsonl.
        limit: the most items of any one set, drawn by the seed.
        tasks: files and folders of examples, for learning in context.
        texts: files whose text is to be predicted.
        classifier: a folder that `evaluate --train-classifier` wrote.
        lexicon: a file of offensive words, one a line.
        prompts: JSONL with `prompt` and, where it is known, `refuse` (true or false).
        num_samples: continuations of each prompt, where texts are sampled.
    """

    data_root: Path | None = None
    limit: int | None = None
    seed: int = 1
    tasks: tuple[Path, ...] = ()
    texts: tuple[Path, ...] = ()
    classifier: Path | None = None
    lexicon: Path | None = None
    prompts: Path | None = None
    num_samples: int = 8
    shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    draws: int = 3

    @property
    def given(self) -> list[Path]:
        """All files and folders that the user named, but the data root."""
        alone = (self.classifier, self.lexicon, self.prompts)
        return [*self.tasks, *self.texts, *(path for path in alone if path is not None)]

    def file(self, name: str) -> Path | None:
        """The file of this name below the data root, if it is there."""
        path = None if self.data_root is None else self.data_root / name
        return path if path is not None and path.is_file() else None

    def limited(self, items: Sequence[Item], what: str) -> list[Item]:
        """At most `limit` of the items, in their order, drawn by the seed and `what` they are."""
        if self.limit is None or len(items) <= self.limit:
            return list(items)
        chosen = Random(f"{what} {self.seed}").sample(range(len(items)), self.limit)
        return [items[place] for place in sorted(chosen)]


@runtime_checkable
class Probe(Protocol):
    """One file of this folder, or an entry point of the group `foundling.probes`.

    `run` raises ConfigError where a file is broken. What a probe cannot measure for want of a
    file it says in its notes; a probe without any input gives findings without metrics.
    """

    name: str
    title: str
    about: str
    """One or two sentences for the report: what is measured, and what it is not."""

    def run(self, scorer: Scorer, setting: Setting) -> Findings: ...
