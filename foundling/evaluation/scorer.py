"""The interface of a model to a probe: how likely continuations are, and what it writes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from foundling.generation.sampling import Sampling


@dataclass(frozen=True)
class Question:
    """A user turn, whose continuation is the answer.

    A model that was tuned on conversations reads it as one; any other reads `plain`.
    """

    text: str
    before: tuple[tuple[str, str], ...] = ()
    """Earlier questions with their answers, such as examples."""

    @property
    def plain(self) -> str:
        earlier = "".join(f"Q: {asked}\nA: {answer}\n\n" for asked, answer in self.before)
        return f"{earlier}Q: {self.text}\nA:"


Prompt = str | Question
Pair = tuple[Prompt, str]
"""A prompt and its continuation."""


def said(prompt: Prompt) -> str:
    """What a prompt says, without the form of a question."""
    return prompt if isinstance(prompt, str) else prompt.text


def in_plain(prompt: Prompt) -> str:
    """A prompt as a model reads it that was not tuned on conversations."""
    return prompt if isinstance(prompt, str) else prompt.plain


@dataclass(frozen=True)
class Scored:
    """A continuation's log-probability in nats, summed over its tokens, their number, and whether
    each of them is the likeliest one."""

    log_prob: float
    num_tokens: int
    is_greedy: bool


@dataclass(frozen=True)
class TextScore:
    """The surprise of a text, read in windows of `window` tokens that advance by `stride`.

    `nats` has it token by token: at the first with nothing before it, from the second window on
    with at least `window - stride` tokens before it. `ends` says before which
    character each token ends. `by_position` is the mean surprise at each position of all windows.
    """

    nats: list[float]
    ends: list[int]
    window: int
    stride: int
    by_position: list[float]


@dataclass(frozen=True)
class Writing:
    """How texts are written; sample `i` of a prompt is a function of the prompt, this and `i`."""

    max_tokens: int = 32
    num_samples: int = 1
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    stop: tuple[str, ...] = ()


@runtime_checkable
class Scorer(Protocol):
    """A model as a probe sees it."""

    name: str
    fingerprint: str
    """A hash of the weights, the tokenizer and all else that the answers depend on."""
    chats: bool
    """Whether a Question is asked as a turn of a conversation."""

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        """Each continuation given its prompt.

        None where the two are longer than the context, or hold a character without a token.
        """
        ...

    def fits(self, pairs: Sequence[Pair]) -> list[bool]:
        """Which pairs `score` can answer."""
        ...

    def token_ends(self, text: str) -> list[int]:
        """Before which character each token of a text ends; nothing is computed.

        Raises ConfigError: it holds a character without a token.
        """
        ...

    def read(self, text: str) -> TextScore:
        """A text of any length. Raises ConfigError: it holds a character without a token."""
        ...

    def generate(self, prompts: Sequence[Prompt], writing: Writing) -> list[list[str] | None]:
        """The samples of each prompt.

        None where no room is left for what is to be written, or a character has no token.
        """
        ...
