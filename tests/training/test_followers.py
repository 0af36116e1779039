"""A follower shows what training records, and nothing that it does can reach training."""

import logging
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundling.base.config import ConfigError
from foundling.training.followers import (
    FollowerThread,
    TensorBoardFollower,
    WandbFollower,
    scalars,
)

TRAIN = {"split": "train", "step": 3, "loss_nats": 2.5, "tokens": 10, "learning_rate": float("nan")}
SAMPLES = {"split": "samples", "step": 3, "samples": [{"prompt": "Once", "text": " upon\na <b>"}]}

EVENT = {
    "split": "event", "act": "rewind", "kind": "rewind", "step": 5, "to": 2, "batches": 4,
    "skipped": [8, 24], "message": "went back to step 2\n* the canary",
}  # fmt: skip


class Keeper:
    """Keeps what it is given, as slowly as it is told to."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.closed = False
        self.seconds = seconds

    def record(self, record: Mapping[str, Any]) -> None:
        time.sleep(self.seconds)
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


class Breaks(Keeper):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def record(self, record: Mapping[str, Any]) -> None:
        super().record(record)
        raise self.error


class Hangs(Keeper):
    """Blocks in the first record until `release` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def record(self, record: Mapping[str, Any]) -> None:
        self.release.wait()


def test_every_record_arrives_in_order_before_close_returns() -> None:
    keeper = Keeper(0.001)
    thread = FollowerThread(keeper, "keeper")
    for step in range(100):
        thread.record({"step": step})
    thread.close()
    assert [record["step"] for record in keeper.records] == list(range(100))
    assert keeper.closed


def test_a_record_is_kept_as_it_was() -> None:
    keeper = Keeper(0.01)
    thread = FollowerThread(keeper, "keeper")
    record = {"step": 1}
    thread.record(record)
    record["step"] = 2
    thread.close()
    assert keeper.records == [{"step": 1}]


@pytest.mark.parametrize("error", [RuntimeError("no disk"), SystemExit(1), KeyboardInterrupt()])
def test_a_follower_that_raises_is_switched_off_and_said_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Breaks(error)
    thread = FollowerThread(broken, "board", capacity=2)
    for step in range(50):
        thread.record({"step": step})
        time.sleep(0.001)
    start = time.monotonic()
    thread.close()
    thread.record({"step": 99})
    assert time.monotonic() - start < 1
    assert len(broken.records) == 1
    switched_off = [text for text in caplog.messages if "switched off" in text]
    assert len(switched_off) == 1
    assert switched_off[0].startswith(f"board: switched off after {type(error).__name__}")


def test_a_follower_that_hangs_delays_nobody_and_what_it_lost_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hanging = Hangs()
    thread = FollowerThread(hanging, "board", capacity=10, patience=0.2)
    thread.record({"step": -1})
    while thread._queue.qsize():  # taken up: now it hangs
        time.sleep(0.001)
    start = time.monotonic()
    for step in range(1000):
        thread.record({"step": step})
    assert time.monotonic() - start < 0.2
    start = time.monotonic()
    thread.close()
    assert 0.15 < time.monotonic() - start < 1
    assert any("990 records were dropped" in text for text in caplog.messages)
    assert any("not done 0.2 seconds after training" in text for text in caplog.messages)
    hanging.release.set()


def test_closing_twice_or_without_a_record_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "foundling")
    thread = FollowerThread(Keeper(), "keeper")
    thread.close()
    thread.close()
    assert not caplog.messages


def test_scalars_are_the_finite_numbers_by_split() -> None:
    record = {**TRAIN, "loss_by_position": [1.0], "bits_per_byte": None, "flag": True}
    assert scalars(record) == {"train/loss_nats": 2.5, "train/tokens": 10.0}
    assert scalars(EVENT) == {}


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    thread = FollowerThread(TensorBoardFollower(tmp_path), "tensorboard", patience=30)
    for step in (1, 2, 3):
        thread.record({**TRAIN, "step": step, "loss_nats": 2.0**-step})
    thread.record(SAMPLES)
    thread.record(EVENT)
    thread.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss_nats")] == [
        (1, 0.5), (2, 0.25), (3, 0.125)
    ]  # fmt: skip
    assert events.Tags()["scalars"] == ["train/loss_nats", "train/tokens"]
    text = events.Tensors("samples/0")[0].tensor_proto.string_val[0].decode()
    assert text == "    Once upon\n    a <b>"
    (act,) = events.Tensors("guard")
    assert act.step == 5
    assert act.tensor_proto.string_val[0].decode() == "    went back to step 2\n    * the canary"


def test_tensorboard_hides_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps, loss in (((1, 2, 3, 4), 5.0), ((3, 4), 1.0)):
        follower = TensorBoardFollower(tmp_path)
        for step in steps:
            follower.record({**TRAIN, "step": step, "loss_nats": loss})
        follower.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss_nats")] == [
        (1, 5.0), (2, 5.0), (3, 1.0), (4, 1.0)
    ]  # fmt: skip


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_extra_is_the_users_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("foundling.training.followers.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf'pip install "foundling\[{package}\]"'):
        TensorBoardFollower(tmp_path) if package == "tensorboard" else WandbFollower("p", "n", {})


def test_wandb_gets_scalars_and_samples_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, Any]] = []
    calls: list[tuple[str, Any]] = []
    run = SimpleNamespace(
        log=logged.append,
        define_metric=lambda name, step_metric=None: calls.append((name, step_metric)),
        finish=lambda: calls.append(("finish", None)),
    )
    wandb = SimpleNamespace(
        init=lambda **settings: calls.append(("init", settings)) or run,
        Table=lambda columns, data: (columns, data),
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("foundling.training.followers.find_spec", lambda name: object())
    follower = WandbFollower("hamlet", "first", {"seed": 1})
    follower.record(TRAIN)
    follower.record(SAMPLES)
    follower.record(EVENT)
    follower.close()
    settings = {"project": "hamlet", "name": "first", "config": {"seed": 1}}
    assert calls == [("init", settings), ("step", None), ("*", "step"), ("finish", None)]
    assert logged == [
        {"step": 3, "train/loss_nats": 2.5, "train/tokens": 10.0},
        {"step": 3, "samples": (["prompt", "text"], [["Once", " upon\na <b>"]])},
        {"step": 5, "guard": "went back to step 2\n* the canary"},
    ]
