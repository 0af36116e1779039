"""Answers of one or more models on the terminal, as they are written."""

import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from queue import SimpleQueue

from rich.cells import set_cell_size
from rich.console import Console
from rich.live import Live
from rich.text import Text

from foundling.base.config import ConfigError

COLUMN = 40  # characters that a column needs, or the answers stand below each other
GAP = "  │  "
REDRAWN = 0.05  # seconds between two looks at the columns

_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_CONTROLS |= dict.fromkeys(range(127, 160), "�")


def visible(text: str) -> str:
    """The text with its control characters as pictures: a model must not steer the terminal."""
    return text.translate(_CONTROLS)


class Answers:
    """Answers that are written at the same time, each on a thread of its own.

    Iterating gives (which answer, a piece of it), and None in place of a piece where one is over.

    Args:
        cancel: ends the answers, from any thread.
    """

    def __init__(self, answers: Sequence[Iterator[str]], cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self.errors: dict[int, ConfigError] = {}
        self._stopped = threading.Event()
        self._events: SimpleQueue[tuple[int, str | BaseException | None]] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._write, args=each, daemon=True)
            for each in enumerate(answers)
        ]

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        for thread in self._threads:
            thread.start()
        open_ones = len(self._threads)
        while open_ones:
            which, event = self._events.get()
            if isinstance(event, ConfigError):
                self.errors[which] = event
            elif isinstance(event, BaseException):
                raise event
            else:
                open_ones -= event is None
                yield which, event

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """End all answers; raises KeyboardInterrupt the second time."""
        if self.stopped:
            raise KeyboardInterrupt
        self._stopped.set()
        self._cancel()

    def _write(self, which: int, answer: Iterator[str]) -> None:
        try:
            with closing(answer):  # type: ignore[type-var]  # a generator
                for piece in answer:
                    self._events.put((which, piece))
                    if self.stopped:
                        break
        except BaseException as error:
            self._events.put((which, error))
        self._events.put((which, None))


@contextmanager
def stopping(answers: Answers) -> Iterator[None]:
    """While entered, Ctrl-C stops the answers, and what is typed waits unseen for the prompt."""
    before = signal.signal(signal.SIGINT, lambda *_: answers.stop())
    try:
        with _unseen_typing() if sys.stdin.isatty() else nullcontext():
            yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _unseen_typing() -> Iterator[None]:
    keyboard = sys.stdin.fileno()
    modes, unseen = termios.tcgetattr(keyboard), termios.tcgetattr(keyboard)
    unseen[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(keyboard, termios.TCSANOW, unseen)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, modes)


def show(answers: Answers, names: Sequence[str], console: Console) -> None:
    """Write the answers as they come: in columns where they fit, else one after the other."""
    with stopping(answers):
        if len(names) > 1 and console.width >= len(names) * (COLUMN + len(GAP)) - len(GAP):
            _in_columns(answers, names, console)
        else:
            _in_turn(answers, names, console)
        console.print()


def _in_turn(answers: Answers, names: Sequence[str], console: Console) -> None:
    """The first answer as it comes, then what there is of the next one, and how it goes on."""
    waiting, over, shown = [""] * len(names), [False] * len(names), 0

    def head() -> None:
        if len(names) > 1:
            console.print(names[shown], style="bold", markup=False, highlight=False)

    head()
    for which, piece in answers:
        over[which] = over[which] or piece is None
        waiting[which] += piece or ""
        while shown < len(names):
            _put(waiting[shown], console)
            waiting[shown] = ""
            if not over[shown]:
                break
            _put("\n", console)
            shown += 1
            if shown < len(names):
                _put("\n", console)
                head()


def _put(text: str, console: Console) -> None:
    """Write and flush, wrapped by the terminal: what is copied from it has no breaks of ours."""
    console.file.write(visible(text))
    console.file.flush()


def _in_columns(answers: Answers, names: Sequence[str], console: Console) -> None:
    """Rows that every answer has passed are printed for good; below them the rest is redrawn."""
    columns = Columns(names, console)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        drawn = 0.0
        for which, piece in answers:
            columns.add(which, piece)
            if time.monotonic() - drawn > REDRAWN:
                for row in columns.settled():
                    live.console.print(row)
                live.update(columns.open(), refresh=True)
                drawn = time.monotonic()
    for row in columns.settled():
        console.print(row)


class Columns:
    """Texts side by side, wrapped at words, row by row."""

    def __init__(self, names: Sequence[str], console: Console) -> None:
        self._console, count = console, len(names)
        self._width = (console.width - (count - 1) * len(GAP)) // count
        self._texts, self._over = [""] * count, [False] * count
        self._heads = [Text(name, style="bold") for name in names]
        self._printed = 0

    def add(self, which: int, piece: str | None) -> None:
        """Add a piece to a text, or None: it is over."""
        self._texts[which] += visible(piece or "")
        self._over[which] |= piece is None

    def settled(self) -> list[Text]:
        """The rows, not given yet, that will not change any more."""
        columns = self._columns()
        counts = [
            len(lines) - 1 for lines, over in zip(columns, self._over, strict=True) if not over
        ]
        end = min(counts, default=max(map(len, columns)))
        rows = self._rows(columns, self._printed, end)
        self._printed = max(self._printed, end)
        return rows

    def open(self) -> Text:
        """The rows that may still change, as many as the screen holds."""
        room = self._printed + self._console.height - 2
        return Text("\n").join(self._rows(self._columns(), self._printed, room))

    def _columns(self) -> list[list[str]]:
        return [
            [head.plain, *(line.plain for line in Text(text).wrap(self._console, self._width))]
            for head, text in zip(self._heads, self._texts, strict=True)
        ]

    def _rows(self, columns: list[list[str]], start: int, end: int) -> list[Text]:
        longest = max(map(len, columns))
        return [
            Text(
                GAP.join(
                    set_cell_size(lines[row] if row < len(lines) else "", self._width)
                    for lines in columns
                ).rstrip(),
                style="bold" if row == 0 else "",
                no_wrap=True,
                overflow="ignore",
            )
            for row in range(start, min(end, longest))
        ]
