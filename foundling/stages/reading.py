"""Rows of files as what is learned and what is held out, the same way for every stage."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from foundling.base.config import ConfigError
from foundling.data.prompt_split import Prompted, split_by_prompt
from foundling.stages.settings import TunedConfig

if TYPE_CHECKING:
    from foundling.stages.job import Job

Item = TypeVar("Item", bound=Prompted)
Split = Literal["train", "validation"]
Read = Callable[["Job[Any, Any]", Sequence[str], Split], list[Item]]
"""The items of some files."""


def read_rows(
    read: Read[Item], noun: str
) -> Callable[["Job[Any, Any]"], tuple[list[Item], list[Item]]]:
    """What a stage learns from, and what it holds out: files of its own, or a share of the prompts.

    `noun` names the items where something is wrong with them.
    """

    def learned_and_held_out(job: "Job[Any, Any]") -> tuple[list[Item], list[Item]]:
        config: TunedConfig = job.config
        settings = config.data
        if not settings.files:
            raise ConfigError(f"data.files: give --data FILE, the {noun} to learn from.")
        learned = read(job, settings.files, "train")
        if settings.validation:
            return learned, read(job, settings.validation, "validation")
        return split_by_prompt(learned, settings.validation_fraction, config.seed, noun)

    return learned_and_held_out
