"""Progress of data preparation, for a callback or a bar in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Progress = Callable[[str, int, int | None], None]  # stage, bytes done, bytes in total if known

STEP_BYTES = 1 << 18  # report at most once per so many bytes

Item = TypeVar("Item")


def watched(
    items: Iterator[Item],
    stage: str,
    read: Callable[[], tuple[int, int | None]],
    progress: Progress | None,
) -> Iterator[Item]:
    """The same items; `read` gives the bytes read so far and in all."""
    if progress is None:
        yield from items
        return
    reported = 0
    for item in items:
        yield item
        done, total = read()
        if done - reported >= STEP_BYTES:
            progress(stage, done, total)
            reported = done
    progress(stage, *read())


@contextmanager
def rich_progress() -> Iterator[Progress]:
    """A progress bar with MB/s on standard error."""
    from rich import progress as bar
    from rich.console import Console

    columns = (
        bar.TextColumn("{task.description}"),
        bar.BarColumn(),
        bar.DownloadColumn(),
        bar.TransferSpeedColumn(),
        bar.TimeRemainingColumn(),
    )
    tasks: dict[str, bar.TaskID] = {}
    with bar.Progress(*columns, console=Console(stderr=True)) as bars:

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show
