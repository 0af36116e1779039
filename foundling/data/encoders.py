"""Encodes batches of text, here or in processes of their own."""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from foundling.base.config import ConfigError
from foundling.text.tokenizer import Tokenizer
from foundling.text.word_table import WordTable

Window = tuple[str, str, str]
"""A text between one before and one after it."""


class Encoder(Protocol):
    """Gives the tokens that begin in each text, as they are written to a file."""

    at_once: int
    """How many threads may call it at a time."""

    def encode(self, windows: Sequence[Window]) -> list[bytes]:
        """Raises ConfigError: the vocabulary of characters lacks one of a text's."""
        ...


class LocalEncoder:
    """Encodes in this process."""

    at_once = 1

    def __init__(self, tokenizer: Tokenizer, dtype: str) -> None:
        self._table = WordTable(tokenizer, dtype)

    def encode(self, windows: Sequence[Window]) -> list[bytes]:
        return [self._table.encode_within(*window) for window in windows]


class EncoderProcesses:
    """A context with processes that encode; they end with it, and when this process is killed.

    Each reads batches from its standard input and ends with it.

    Args:
        folder: of the tokenizer.
    """

    def __init__(self, folder: Path, dtype: str, count: int) -> None:
        self.at_once = count
        # One thread each: there are as many processes as cores.
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", __name__, str(folder), dtype]
        self._processes = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            for _ in range(count)
        ]
        self._free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._processes:
            self._free.put(process)

    def __enter__(self) -> "EncoderProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):  # what is left in its buffer has no reader any more
                    assert stream is not None
                    stream.close()
            process.wait()

    def encode(self, windows: Sequence[Window]) -> list[bytes]:
        process = self._free.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, windows)
            found = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):  # the last: in the middle of an answer
            raise ConfigError(
                f"a process that encodes ended by itself (exit code {process.wait()}), perhaps for "
                "want of memory; give fewer --workers."
            ) from None
        finally:
            self._free.put(process)
        if isinstance(found, str):
            raise ConfigError(found)
        tokens: list[bytes] = found
        return tokens


def _send(stream: Any, values: Any) -> None:
    pickle.dump(values, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _serve(folder: str, dtype: str) -> None:
    """Answer batches until there are no more."""
    encoder = LocalEncoder(Tokenizer.load(folder), dtype)
    read, write = sys.stdin.buffer, sys.stdout.buffer
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            windows = pickle.load(read)
            try:
                found: list[bytes] | str = encoder.encode(windows)
            except ConfigError as error:
                found = str(error)
            _send(write, found)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
