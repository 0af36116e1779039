"""Rows of files as what is learned and what is held out, the same way for every stage."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from foundling.base import ranks
from foundling.base.config import ConfigError
from foundling.base.ranks import on_first
from foundling.data.packing import Indices, pack
from foundling.data.prompt_split import Prompted, split_by_prompt
from foundling.stages.machine import tokens_at_once
from foundling.stages.settings import TunedConfig

if TYPE_CHECKING:
    from foundling.stages.job import Job

logger = logging.getLogger(__name__)

LONG = 1024
"""Tokens of a row that is not set, at the most, unless an example is longer."""
STEPS_AN_EPOCH = 8
"""Where rows of `LONG` tokens would make fewer steps of an epoch, they are shorter."""

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


def fit_rows(job: "Job[Any, Any]", lengths: Indices, longest: int) -> int:
    """Tokens in a row, and in `job.config` as many rows at a time as memory takes.

    Args:
        lengths: of what is learned from, in tokens.
        longest: of the longest example of either split, which a row must hold.
    """
    row_length = _row_length(job, lengths, longest)
    training = job.config.training
    if training.micro_batch_size is None and not job.resume:
        rows = on_first(lambda: max(1, tokens_at_once(job.model, job.machine.device) // row_length))
        if rows < -(-training.batch_size // ranks.world()):
            logger.info(
                f"{rows} rows are worked at a time, for memory (training.micro_batch_size)."
            )
            training = training.model_copy(update={"micro_batch_size": rows})
            job.config = job.config.model_copy(update={"training": training})
    return row_length


def _row_length(job: "Job[Any, Any]", lengths: Indices, longest: int) -> int:
    """Tokens in a row, such that an epoch fills a step at the least; else a step takes fewer rows.

    The context decides where it is short; a parent of long context gets rows by its data.
    """
    config: TunedConfig = job.config
    packing, batch_size = config.data.packing, config.training.batch_size
    num_tokens = int(lengths.sum())

    def rows(length: int) -> int:
        return len(pack(lengths, length)) if packing else len(lengths)

    row_length = config.data.row_length or max(job.context, longest)
    if config.data.row_length is None and job.context > LONG:
        fitting = min(LONG, num_tokens // (STEPS_AN_EPOCH * batch_size))
        row_length = max(longest, fitting) if packing else longest
        logger.info(
            f"rows have {row_length:,} tokens, though the parent reads {job.context:,} "
            "(data.row_length)."
        )
    if longest > row_length or rows(row_length) >= batch_size:
        return row_length
    if config.data.row_length is None and packing and job.context <= LONG:
        before, row_length = row_length, max(longest, num_tokens // batch_size)
        logger.info(
            f"rows have {row_length:,} tokens, not {before:,}: with longer ones a "
            "step would be more than one epoch (data.row_length)."
        )
    if (num_rows := rows(row_length)) < batch_size:
        logger.warning(
            f"training.batch_size = {batch_size}: an epoch has only {num_rows} rows, so a step "
            f"takes {num_rows}."
        )
        training = config.training.model_copy(update={"batch_size": num_rows})
        job.config = config.model_copy(update={"training": training})
    return row_length
