"""The items of benchmarks: multiple choice, schemas, completions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MultipleChoice:
    """A prompt and its possible continuations."""

    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Schema:
    """Possible contexts, of which the continuation follows one."""

    contexts: tuple[str, ...]
    continuation: str
    gold: int


@dataclass(frozen=True)
class Completion:
    """A context and the words that follow it."""

    context: str
    continuation: str


Item = MultipleChoice | Schema | Completion
