"""Where a run's records go: the terminal, the report, TensorBoard and W&B."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foundling.base.config import Section, load_toml
from foundling.base.ranks import is_first
from foundling.runs.records import straggler_in_words
from foundling.runs.run import Run
from foundling.training.followers import (
    FollowerThread,
    TensorBoardFollower,
    WandbFollower,
    require,
)
from foundling.training.loop import Record
from foundling.training.progress import ProgressLine


class FollowerSettings(Section):
    """Where else the metrics go; none of these can stop training."""

    report: bool = True
    """Draw report.html during training and at its end."""
    tensorboard: bool = False
    wandb_project: str | None = None


def require_followers(settings: FollowerSettings) -> None:
    """Raise ConfigError where a follower that is asked for is not installed."""
    if settings.tensorboard:
        require("tensorboard")
    if settings.wandb_project is not None:
        require("wandb")


def report(settings: FollowerSettings, folder: Path) -> None:
    """Draw the report of a run, where it is wanted."""
    if settings.report:
        from foundling.reports.run_report import write_run_report  # matplotlib takes its time

        write_run_report(folder)


@contextmanager
def observers(
    settings: FollowerSettings, run: Run, start: int, steps: int
) -> Iterator[tuple[Callable[[Record], None], ProgressLine]]:
    """While entered: the function that tells everyone of a record, and the progress line.

    Of several processes the first one tells.
    """
    if not is_first():
        with open(os.devnull, "w") as nowhere, ProgressLine(steps, start, nowhere) as progress:
            yield lambda record: None, progress
        return
    followers = []
    if settings.report:
        followers.append(FollowerThread(_Reporter(settings, run.folder), "report", patience=60.0))
    if settings.tensorboard:
        board = TensorBoardFollower(run.folder / "tensorboard")
        followers.append(FollowerThread(board, "tensorboard"))
    if settings.wandb_project is not None:
        wandb = WandbFollower(
            settings.wandb_project, run.folder.name, load_toml(run.folder / "config.toml")
        )
        followers.append(FollowerThread(wandb, "wandb"))
    with ProgressLine(steps, start) as progress:

        def observe(record: Record) -> None:
            for follower in followers:
                follower.record(record)
            if record["split"] == "train":
                progress.update(record)
            else:
                for line in describe(record):
                    progress.message(line)

        try:
            yield observe, progress
        finally:
            for follower in followers:
                follower.close()


class _Reporter:
    """Rewrites the report of a run while it trains; the last one is written at its end."""

    EVERY = 10.0  # seconds: drawing takes about one of a core

    def __init__(self, settings: FollowerSettings, folder: Path) -> None:
        self.settings, self.folder, self.written = settings, folder, time.monotonic()

    def record(self, record: Record) -> None:
        is_time = time.monotonic() - self.written >= self.EVERY
        if is_time and record["split"] in ("validation", "event"):
            report(self.settings, self.folder)
            self.written = time.monotonic()

    def close(self) -> None:
        pass


def describe(record: Record) -> Sequence[str]:
    """A validation, a sample record or an act of the guard in words."""
    if record["split"] == "event":
        return [f"guard, step {record['step']:,}: {record['message']}"]
    if record["split"] == "straggler":
        return [straggler_in_words(record)]
    if record["split"] == "samples":
        return [f"  {sample['prompt']}▸{sample['text']}" for sample in record["samples"]]
    of = "pair" if "num_pairs" in record else "token"
    parts = [f"validation at step {record['step']}: {record['loss_nats']:.4f} nats per {of}"]
    if "accuracy" in record:
        low, high = record["accuracy_interval"]
        parts.append(f"accuracy {record['accuracy']:.1%} ({low:.1%} to {high:.1%})")
    for key, words in (
        ("bits_per_byte", "{:.4f} bits per byte"),
        ("longer_accuracy", "the longer answer {:.1%}"),
        ("margin", "margin {:.4f}"),
        ("kl_nats", "KL {:.4f}"),
        ("answer_tokens", "answers of {:.0f} tokens"),
        ("pretraining_bits_per_byte", "pretraining text {:.4f} bits per byte"),
        ("parent_answers_loss_nats", "the parent's own answers {:.4f} nats per token"),
    ):
        if record.get(key) is not None:
            parts.append(words.format(record[key]))
    alarms = [f"alarm, step {record['step']}: {record['alarm']}"] if record.get("alarm") else []
    return [", ".join(parts), *alarms]
