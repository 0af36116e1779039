"""What a probe is: a name, its own settings, and a function from a scorer to findings."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol, TypeVar, runtime_checkable

from pydantic import Field

from foundling.base.config import Section
from foundling.evaluation.findings import Findings
from foundling.evaluation.scorer import Scorer

Item = TypeVar("Item")


class Setting(Section):
    """What all probes share; each has further settings of its own."""

    limit: int | None = Field(None, gt=0)
    """The most items of any one set, drawn by the seed."""
    seed: int = 1
    data_root: Path | None = None
    """The folder with files of known names, such as bench/copa.jsonl."""
    village: bool | None = None
    """Whether the embedded village is asked about; None: of models that have read of it."""

    @property
    def asks_village(self) -> bool:
        """Whether it is asked about; `evaluate` settles it for each model."""
        return self.village is not False

    def file(self, name: str, findings: Findings | None = None) -> Path | None:
        """The file of this name below the data root; if it is missing, the findings say so."""
        path = None if self.data_root is None else self.data_root / name
        if path is not None and path.is_file():
            return path
        if findings is not None:
            findings.not_there(name)
        return None

    def limited(self, items: Sequence[Item], what: str, most: int | None = None) -> list[Item]:
        """At most `limit` of the items, or `most`, in order, drawn by the seed and by `what`."""
        most = most or self.limit or len(items)
        if len(items) <= most:
            return list(items)
        chosen = Random(f"{what} {self.seed}").sample(range(len(items)), most)
        return [items[index] for index in sorted(chosen)]


@runtime_checkable
class Probe(Protocol):
    """One file of this folder, or an entry point of the group `foundling.probes`.

    A probe with settings is a `Section` whose fields they are: `[name]` in a TOML file, `--set
    name.key=value`. A field of type Path is a file or a folder that must exist.

    `run` raises ConfigError where a file is broken. What a probe cannot measure for want of a
    file it says in its notes; a probe without any input gives findings without metrics.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def about(self) -> str:
        """One or two sentences for the report: what is measured, and what it is not."""
        ...

    def run(self, scorer: Scorer, setting: Setting) -> Findings: ...


@runtime_checkable
class Checked(Protocol):
    """A probe that reads its files once before any model is loaded, so that faults come first."""

    def check(self, setting: Setting) -> None:
        """Raises ConfigError."""
        ...
