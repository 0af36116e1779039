"""The progress line tells the truth, stays out of pipes, and never stops training."""

import io
import logging
import re
from typing import Any

import pytest

from foundling.training.progress import ProgressLine, clock_time, reporting_to, thousands


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A stream whose other end has been closed."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        raise BrokenPipeError


def record(step: int, **more: Any) -> dict[str, Any]:
    return {"split": "train", "step": step, "loss_nats": 2.345678, **more}


def test_plain_lines_come_at_most_every_n_seconds_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressLine(100, 0, stream, every_seconds=10, clock=clock) as progress:
        for step in range(1, 101):
            clock.now += 0.25
            progress.update(record(step, tokens_per_second=8300.4, matrix_rate_fraction=0.414))
    lines = stream.getvalue().splitlines()
    assert [line.split(" ")[1] for line in lines] == ["1/100", "41/100", "81/100", "100/100"]
    assert lines[1] == (
        "step 41/100 (41%) · loss 2.3457 · 8,300 tokens/s · 41% of matrix rate · 0:15 left"
    )
    assert "left" not in lines[-1]
    assert "\x1b" not in stream.getvalue()


def test_the_time_left_follows_the_recent_rate() -> None:
    clock = Clock()
    progress = ProgressLine(10_000, 0, io.StringIO(), clock=clock)
    assert progress.seconds_left() is None
    clock.now = 500  # the first step compiles
    for step in range(1, 1001):
        clock.now += 1
        progress.update(record(step))
    assert progress.seconds_left() == pytest.approx(9000, rel=0.01)
    for step in range(1001, 1501):  # the machine is busy now
        clock.now += 3
        progress.update(record(step))
    assert progress.seconds_left() == pytest.approx(3 * 8500, rel=0.01)


def test_a_rewind_starts_the_rate_anew() -> None:
    clock = Clock()
    progress = ProgressLine(100, 0, io.StringIO(), clock=clock)
    for step in (1, 2, 3, 2, 3, 4):
        clock.now += 2
        progress.update(record(step))
    assert progress.seconds_left() == pytest.approx(192)


def test_a_resumed_run_counts_from_where_it_was() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressLine(100, 50, stream, clock=clock) as progress:
        clock.now = 2
        progress.update(record(51))
    assert "step 51/100 (51%)" in stream.getvalue()
    assert "1:38 left" in stream.getvalue()


def test_a_message_is_printed_as_it_is_but_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    with ProgressLine(10, 0, stream) as progress:
        long = "word " * 60
        progress.message(f"[red]validation[/red] \x1b[2J\x9b\r at :smile: step 100: 1.53\n{long}")
    first, second = stream.getvalue().split("\n")[:2]
    assert first == "[red]validation[/red] \ufffd[2J\ufffd\ufffd at :smile: step 100: 1.53"
    assert second == long


def test_on_a_terminal_one_line_lives_and_messages_stand_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with ProgressLine(100, 0, stream) as progress:
        progress.update(record(40, tokens_per_second=12_500, matrix_rate_fraction=0.4))
        progress.message("validation at step 40: 1.53 nats per token")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "validation at step 40: 1.53 nats per token\n" in shown
    assert "━" in shown
    for part in ("step 40/100 (40%)", "loss 2.3457", "12.5k tokens/s", "40% of matrix rate"):
        assert part in shown
    assert stream.getvalue().rstrip().endswith("\x1b[2K")  # the line is taken away at the end
    assert stream.getvalue().count("\x1b[?25h") == 1  # and the cursor is back


@pytest.mark.parametrize("columns", [30, 50, 70, 100, 200])
def test_the_live_line_fits_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    with ProgressLine(10_000, 0, stream) as progress:
        progress.update(record(4000, tokens_per_second=12_500, matrix_rate_fraction=0.4))
        progress.message("here")
    for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines():
        assert len(line) <= columns
    assert ("of matrix rate" in stream.getvalue()) == (columns >= 100)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stream_that_is_gone_stops_nothing(terminal: bool) -> None:
    stream = Gone(terminal)
    progress = ProgressLine(10, 0, stream, every_seconds=0)
    progress.update(record(1))
    progress.message("hello")
    progress.close()
    closed = io.StringIO()
    progress = ProgressLine(10, 0, closed, every_seconds=0)
    closed.close()
    progress.update(record(1))
    progress.close()


def test_numbers_and_times_are_short() -> None:
    assert [thousands(v) for v in (83.21, 8300, 12_500, 999_999, 1.25e6)] == [
        "83.2", "8,300", "12.5k", "1M", "1.25M"
    ]  # fmt: skip
    assert [clock_time(v) for v in (0, 7.4, 761, 11_109)] == ["0:00", "0:07", "12:41", "3:05:09"]


def test_reports_can_go_to_a_stream_alone(capsys: pytest.CaptureFixture[str]) -> None:
    reports = logging.getLogger("foundling")
    before = list(reports.handlers), reports.level, reports.propagate
    stream = io.StringIO()
    with reporting_to(stream):
        logging.getLogger("foundling.stages").info("said")
        with ProgressLine(3) as progress:
            progress.update({"step": 2, "loss_nats": 1.5})
            progress.message("shown")
    assert "said" in stream.getvalue()
    assert "shown" in stream.getvalue()
    assert "step 2/3" in stream.getvalue()
    assert capsys.readouterr() == ("", "")
    assert (list(reports.handlers), reports.level, reports.propagate) == before
    with ProgressLine(3) as progress:
        progress.message("elsewhere")
    assert "elsewhere" not in stream.getvalue()
