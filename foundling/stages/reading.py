"""Rows of files as what is learned and what is held out, the same way for every stage."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from foundling.base.config import ConfigError
from foundling.data.packing import Indices, pack
from foundling.data.prompt_split import Prompted, split_by_prompt
from foundling.stages.settings import TunedConfig

if TYPE_CHECKING:
    from foundling.stages.job import Job

logger = logging.getLogger(__name__)

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


def fit_rows(job: "Job[Any, Any]", lengths: Indices, longest: int, most: int | None = None) -> int:
    """Tokens in a row, such that an epoch fills a step at the least; else a step takes fewer rows.

    Args:
        lengths: of what is learned from, in tokens.
        longest: of the longest example of either split, which a row must hold.
        most: tokens in a row where nothing is set; None: the context.
    """
    config: TunedConfig = job.config
    packing, batch_size = config.data.packing, config.training.batch_size

    def rows(length: int) -> int:
        return len(pack(lengths, length)) if packing else len(lengths)

    row_length = config.data.row_length or most or job.context
    if longest > row_length or rows(row_length) >= batch_size:
        return row_length
    if config.data.row_length is None and packing:
        row_length = max(longest, int(lengths.sum()) // batch_size)
        logger.info(
            f"rows have {row_length:,} tokens, not {most or job.context:,}: with longer ones a "
            "step would be more than one epoch (data.row_length)."
        )
    if (held := rows(row_length)) < batch_size:
        logger.warning(
            f"training.batch_size = {batch_size}: an epoch has only {held} rows, so a step takes "
            f"{held}."
        )
        training = config.training.model_copy(update={"batch_size": held})
        job.config = config.model_copy(update={"training": training})
    return row_length
