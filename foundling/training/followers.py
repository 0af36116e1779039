"""Passes a run's records on to TensorBoard or W&B, on a thread that training never waits for."""

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from foundling.base.config import ConfigError

logger = logging.getLogger(__name__)

CAPACITY = 10_000  # records that may wait: hours of training, a few MB
PATIENCE = 5.0  # seconds that close() waits for the rest to be written
NOT_PLOTTED = ("step", "split")


@runtime_checkable
class Follower(Protocol):
    """Something that receives each record of a run."""

    def record(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class TensorBoardFollower:
    """Writes scalars as `split/name`, samples and the guard's acts as text, into `folder`.

    On resuming, TensorBoard hides what an earlier file holds from the first new step on.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard")
        self._folder = folder
        self._writer: Any = None

    def record(self, record: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.plugins.text.metadata import create_summary_metadata

        step, now = int(record.get("step", 0)), time.time()
        if self._writer is None:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._writer = EventFileWriter(str(self._folder))
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=now, step=step, session_log=start))
        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in scalars(record).items()
        ]
        for tag, text in _texts(record):
            verbatim = "\n".join(
                "    " + line for line in text.split("\n")
            )  # a Markdown code block
            tensor = TensorProto(dtype="DT_STRING", string_val=[verbatim.encode("utf-8")])
            tensor.tensor_shape.dim.add(size=1)
            values.append(
                Summary.Value(tag=tag, metadata=create_summary_metadata(tag, ""), tensor=tensor)
            )
        if values:
            self._writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=values)))
        if record.get("split") != "train":
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WandbFollower:
    """Logs to Weights & Biases; the connection is made with the first record.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        require("wandb")
        self._settings = {"project": project, "name": name, "config": dict(config)}
        self._run: Any = None

    def record(self, record: Mapping[str, Any]) -> None:
        import wandb

        if self._run is None:
            self._run = wandb.init(**self._settings)
            # W&B's own counter refuses a step that it has passed, as after a rewind.
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")
        values: dict[str, Any] = dict(scalars(record))
        if samples := record.get("samples"):
            rows = [[sample.get("prompt", ""), sample.get("text", "")] for sample in samples]
            values["samples"] = wandb.Table(columns=["prompt", "text"], data=rows)
        if record.get("split") == "event":
            values["guard"] = record["message"]
        self._run.log({"step": record.get("step", 0), **values})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


class FollowerThread:
    """Runs a follower beside training, which it can neither stop nor slow.

    A follower that raises is switched off, said once. One that cannot keep up loses the records
    for which the queue of `capacity` has no room; `close` says how many. `close` waits at most
    `patience` seconds for what is still queued.
    """

    def __init__(
        self,
        follower: Follower,
        name: str,
        *,
        capacity: int = CAPACITY,
        patience: int | float = PATIENCE,
    ) -> None:
        self._follower = follower
        self._name = name
        self._patience = patience
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(capacity)
        self._dropped = 0
        self._failed = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"follow-{name}", daemon=True)
        self._thread.start()

    def record(self, record: Mapping[str, Any]) -> None:
        """Queue the record and return at once."""
        if self._failed or self._closed:
            return
        try:
            self._queue.put_nowait(dict(record))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Let the follower finish, within its patience; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + self._patience
        with suppress(queue.Full):
            self._queue.put(None, timeout=self._patience)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            logger.warning(
                "%s: not done %.3g seconds after training; about %d records are not written.",
                self._name, self._patience, self._queue.qsize(),
            )  # fmt: skip
        if self._dropped:
            logger.warning(
                "%s: was too slow; %d records were dropped (metrics.jsonl has them all).",
                self._name, self._dropped,
            )  # fmt: skip

    def _work(self) -> None:
        try:
            while (record := self._queue.get()) is not None:
                self._follower.record(record)
            self._follower.close()
        # Also SystemExit and KeyboardInterrupt, with which wandb answers some failures.
        except BaseException as error:
            self._failed = True
            logger.warning(
                "%s: switched off after %s: %s. Training continues; metrics.jsonl has all records.",
                self._name, type(error).__name__, error,
            )  # fmt: skip
            with suppress(queue.Empty):  # what waits is of no use now
                while True:
                    self._queue.get_nowait()


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a record, each under `split/name`; an event has none to plot."""
    return dict(_scalars(record))


def _scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    split = record.get("split", "train")
    for name, value in record.items() if split != "event" else ():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and name not in NOT_PLOTTED and math.isfinite(value):
            yield f"{split}/{name}", float(value)


def _texts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for index, sample in enumerate(record.get("samples") or ()):
        yield f"samples/{index}", f"{sample.get('prompt', '')}{sample.get('text', '')}"
    if record.get("split") == "event":
        yield "guard", record["message"]


def require(package: str) -> None:
    """Raise ConfigError where a follower's package is not installed."""
    if find_spec(package) is None:
        raise ConfigError(
            f'{package} is not installed: pip install "foundling[{package}]", or switch it off.'
        )
