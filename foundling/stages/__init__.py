"""The table of stages: each a kind of training, run by `foundling.stages.assembly.run_stage`.

Importing this module imports nothing heavy: an entry holds what the command line shows, and where
the stage itself is found. Packages add stages by the entry point group `foundling.stages`; an
entry point names an object of `foundling.stages.job.Stage`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

from foundling.base.shorthand import Shorthand, absolute

if TYPE_CHECKING:
    from foundling.stages.job import Stage

logger = logging.getLogger(__name__)

GROUP = "foundling.stages"


PARENT = Shorthand(
    "--from", "parent", "A run, checkpoint, model folder or hub:owner/name.", "RUN", read=absolute
)


def _data(help: str) -> Shorthand:
    return Shorthand(
        "--data", "data.files", f"{help}, repeatable.", "FILE", list[str], read=absolute
    )


ROWS = (
    Shorthand("--format", "data.format", "The format of the data; default: by its columns."),
    Shorthand(
        "--columns", "data.columns",
        "Which column is which, as in prompt=question,completion=reply.", "OURS=THEIRS,...",
    ),
    Shorthand(
        "--template", "data.template",
        "The chat template: chatml, foundling, one of the parent's by name, or a file.",
        "NAME|FILE",
    ),
    Shorthand(
        "--on-error", "data.on_error", "What to do with a broken row.",
        kind=Literal["stop", "skip"],
    ),
)  # fmt: skip
REPAIR = Shorthand("--repair", "data.repair", "How to repair turns out of order.", "merge,trim")


@dataclass(frozen=True)
class Entry:
    """A stage by name: the verb that the command line makes of it, and where the stage is."""

    help: str
    point: EntryPoint
    options: tuple[Shorthand, ...] = (PARENT, _data("Rows to learn from"), *ROWS)
    sweeps: bool = True
    """The verb can vary one setting."""
    needs_config: bool = False
    """The verb takes a file of settings, unless it resumes a run or starts from a parent."""
    next: str = "chat {out}"
    """The command to try on a finished run."""

    @property
    def name(self) -> str:
        return self.point.name

    def load(self) -> "Stage[Any, Any]":
        """The stage itself.

        Raises:
            ConfigError: its package cannot be imported, or holds something else.
        """
        from foundling.base.config import ConfigError
        from foundling.stages.job import Stage

        try:
            stage = self.point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"stage {self.name}: cannot load {self.point.value}: {error}"
            ) from None
        if not isinstance(stage, Stage):
            raise ConfigError(f"stage {self.name}: {self.point.value} is not a Stage.")
        if stage.name != self.name:
            raise ConfigError(
                f"stage {self.name}: {self.point.value} is named {stage.name}; the entry point "
                "must have the name of its stage."
            )
        return stage


def _entry(name: str, help: str, **more: Any) -> Entry:
    point = EntryPoint(name, f"foundling.stages.{name}:{name.upper()}", GROUP)
    return Entry(help, point, **more)


_STORE = Shorthand(
    "--data", "data", "A folder that `data prepare` wrote, its URL, or the file of a mixture.",
    "DIR|FILE", read=absolute,
)  # fmt: skip

STAGES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        _entry(
            "pretrain",
            "Pretrain a model: the cross-entropy of the next token.",
            options=(_STORE, PARENT),
            sweeps=False,
            needs_config=True,
            next="generate {out} --prompt TEXT",
        ),
        _entry(
            "sft",
            "Tune a model on instructions, held near its parent by λ · KL.",
            options=(PARENT, _data("Conversations to learn from"), *ROWS, REPAIR),
        ),
        _entry(
            "dpo",
            "Tune a model on preferences: chosen answers gain on rejected ones.",
            options=(PARENT, _data("Preferences to learn from"), *ROWS),
        ),
        _entry(
            "kto",
            "Tune a model on answers labelled good or bad: good ones gain, bad ones lose.",
            options=(PARENT, _data("Labelled answers to learn from"), *ROWS),
        ),
    )
}


def find_stages() -> dict[str, Entry]:
    """The stages of the table and those of installed packages, by name."""
    found = dict(STAGES)
    for point in entry_points(group=GROUP):
        if point.name in found:
            logger.warning(f'{point.value}: ignored: a stage named "{point.name}" exists already.')
            continue
        about = point.dist.metadata["Summary"] if point.dist is not None else None
        found[point.name] = Entry(about or f"A stage of {point.value}.", point)
    return found
