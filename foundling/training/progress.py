"""Shows how far training is: one live line on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from io import TextIOBase
from types import TracebackType
from typing import IO, Any, cast

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

REFRESHES = 4  # a second, at most
RECENT_STEPS, RECENT_SECONDS = 20, 60.0  # the time left follows the longer of the two
BAR = (8, 36)  # the narrowest and the widest bar, in columns
# What a model writes must not steer the terminal: no control characters but line feed and tab.
CONTROLS = {code: "\ufffd" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


_STREAM: ContextVar[IO[str] | None] = ContextVar("stream", default=None)


@contextmanager
def reporting_to(stream: IO[str]) -> Iterator[None]:
    """While entered, what the package reports, and its progress lines, go to this stream alone."""
    reports = logging.getLogger("foundling")
    before = reports.handlers, reports.level, reports.propagate
    reports.handlers, reports.propagate = [logging.StreamHandler(stream)], False
    reports.setLevel(logging.INFO)
    token = _STREAM.set(stream)
    try:
        yield
    finally:
        _STREAM.reset(token)
        reports.handlers, reports.propagate = before[0], before[2]
        reports.setLevel(before[1])


class _Console(Console):
    """A console that falls silent where rich's own would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class ProgressLine:
    """The progress of one training run.

    On a terminal, one line that renews itself at most four times a second; elsewhere a plain line
    at most every `every_seconds` and one at the end. It never raises because of its stream: a
    stream that is gone silences it.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        stream: IO[str] | TextIOBase | None = None,
        *,
        every_seconds: int | float = 10.0,
        clock: Callable[[], int | float] = time.monotonic,
    ) -> None:
        self._total = total_steps
        self._start = self._step = start_step
        self._stream = stream or _STREAM.get() or sys.stderr
        self._every = every_seconds
        self._clock = clock
        self._record: Mapping[str, Any] = {}
        self._times: deque[tuple[int | float, int]] = deque([(clock(), start_step)])
        self._printed_at = float("-inf")
        self._printed_step = start_step
        self._live: Live | None = None
        self._console = _Console(file=cast("IO[str]", self._stream), highlight=False)
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                refresh_per_second=REFRESHES,
                transient=True,
                redirect_stdout=False,
                get_renderable=self._renderable,
            )
            self._live.start()

    def update(self, record: Mapping[str, Any]) -> None:
        """Take in a training record; cheap enough for every step."""
        now = self._clock()
        self._record = record
        self._step = int(record.get("step", self._step))
        if self._times[-1][1] >= self._step:  # a rewind
            self._times.clear()
        self._times.append((now, self._step))
        if len(self._times) == 3 and self._times[0][1] == self._start:
            self._times.popleft()  # the first step also compiles and warms up
        while len(self._times) > RECENT_STEPS and now - self._times[1][0] > RECENT_SECONDS:
            self._times.popleft()
        if self._live is None and now - self._printed_at >= self._every:
            self._print_progress(now)

    def message(self, text: str) -> None:
        """Print lines above the bar."""
        safe = Text(text.translate(CONTROLS))
        try:
            self._console.print(safe, soft_wrap=True)
        except (OSError, ValueError):  # gone, or closed
            self._silence()

    def close(self) -> None:
        """Take the live line away, or print the last plain line; a second call does nothing."""
        try:
            if self._live is not None:
                self._live.stop()
                self._live = None
                self._printed_step = self._step
            if self._printed_step != self._step:
                self._print_progress(self._clock())
        except (OSError, ValueError):
            self._silence()

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def seconds_left(self) -> float | None:
        """The time that the remaining steps take at the recent rate; None before it is known."""
        (start, first), (end, last) = self._times[0], self._times[-1]
        if last <= first or end <= start:
            return None
        return (self._total - self._step) * (end - start) / (last - first)

    def _print_progress(self, now: int | float) -> None:
        self._printed_at, self._printed_step = now, self._step
        self.message(" · ".join([self._counter(), *self._parts()]))

    def _counter(self) -> str:
        share = min(1.0, self._step / self._total) if self._total else 1.0
        return f"step {self._step:,}/{self._total:,} ({share:.0%})"

    def _parts(self) -> list[str]:
        """Loss, speed, machine and time left, as far as they are known."""
        record, parts = self._record, []
        if (loss := record.get("loss_nats")) is not None:
            parts.append(f"loss {loss:.4f}")
        if (speed := record.get("tokens_per_second")) is not None:
            parts.append(f"{thousands(speed)} tokens/s")
        if (fraction := record.get("matrix_rate_fraction")) is not None:
            parts.append(f"{fraction:.0%} of matrix rate")
        if (left := self.seconds_left()) is not None and self._step < self._total:
            parts.append(f"{clock_time(left)} left")
        return parts

    def _renderable(self) -> Table:
        """Counter, bar and as many of the parts as the terminal's width holds."""
        counter, parts = self._counter(), self._parts()
        room = self._console.width - len(counter) - BAR[0] - 3
        # What a narrow terminal does without, first to last.
        for word in ("matrix rate", "tokens/s", "loss"):
            if sum(len(part) + 3 for part in parts) <= room:
                break
            parts = [part for part in parts if word not in part]
        rest = " · ".join(parts)
        width = min(BAR[1], max(BAR[0], self._console.width - len(counter) - len(rest) - 3))
        grid = Table.grid(padding=(0, 1))
        for _ in range(3):
            grid.add_column(no_wrap=True)
        bar = ProgressBar(max(self._total, 1), self._step, width=width)
        grid.add_row(Text(counter, style="bold"), bar, Text(rest))
        return grid

    def _silence(self) -> None:
        live, self._live = self._live, None
        self._console = _Console(quiet=True)
        if live is not None:
            live.console = self._console
            live.stop()


def thousands(value: int | float) -> str:
    """A rate in three digits: 83.2 · 8,300 · 12.5k · 1.2M."""
    if value >= 999_500:
        return f"{value / 1e6:.3g}M"
    if value >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def clock_time(seconds: int | float) -> str:
    """Hours, minutes and seconds: 0:07 · 12:41 · 3:05:09."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
