"""What is wrong with an input that cannot be read, and one error for all inputs at fault."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from foundling.base.config import ConfigError

MOST_FAULTS = 20  # that one error lists

Item = TypeVar("Item")


class SourceError(ConfigError):
    """An input cannot be read; the message names the file and the line, `reason` the kind."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RowError(ConfigError):
    """A row cannot be understood; `reason` is of a kind that can be counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class WrongEncoding(SourceError):
    """A file is not in the encoding that it was read in."""


def good_items(
    files: Iterable[tuple[bool, Iterator[Item | SourceError]]],
    drop: Callable[[SourceError], None] | None,
    *,
    advice: str = "",
    on_encoding: str = " Save it as UTF-8.",
) -> Iterator[Item]:
    """What some files hold, without the faults among it.

    Args:
        files: each with whether it is a stream, which is not searched for further faults.
        drop: is told of a fault; without it the files are read to the end when one is found, and
            the first fault of each is raised.
        advice, on_encoding: end the message, the latter where a file is in another encoding.

    Raises:
        SourceError: for all files that are at fault.
    """
    faults: list[SourceError] = []
    for is_stream, found in files:
        if faults and (is_stream or len(faults) == MOST_FAULTS):
            continue
        for item in found:
            if not isinstance(item, SourceError):
                if not faults:
                    yield item
            elif drop is not None:
                drop(item)
            else:
                faults.append(item)
                break
    if faults:
        raise _together(faults, advice, on_encoding)


def _together(faults: Sequence[SourceError], advice: str, on_encoding: str) -> SourceError:
    message = str(faults[0])
    if len(faults) > 1:
        more = " or more" if len(faults) == MOST_FAULTS else ""
        listed = "; ".join(str(fault).rstrip(".") for fault in faults)
        message = f"{len(faults)}{more} files are at fault: {listed}."
    if any(isinstance(fault, WrongEncoding) for fault in faults):
        message += on_encoding
    if advice:
        message = f"{message.removesuffix('.')}.{advice}"
    return SourceError(faults[0].reason, message)
