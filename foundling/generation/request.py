"""What is asked of the engine, and what comes back piece by piece."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from foundling.generation.grammar import Constraint
from foundling.generation.sampling import Sampling

logger = logging.getLogger(__name__)

Finish = Literal["end", "stop", "length", "cancelled", "error"]
LEAST_LOGPROB = -9999.0
"""Log-probabilities are finite: this one stands for all below it, -inf included."""


class QueueFull(Exception):
    """As many requests wait as may; ask again later."""


class Cancelled(Exception):
    """A request was cancelled before its result was complete."""


@dataclass(frozen=True)
class Request:
    """A prompt to continue.

    Args:
        prompt: its tokens, at least one.
        max_tokens: None for as many as the model's context holds (256 where it has no bound). 0
            only reads the prompt, for its log-probabilities.
        stop: the text ends before any of these.
        logprobs: how many of the likeliest tokens are told of beside each generated one, with
            their log-probabilities; 0: only its own; None: none.
        prompt_logprobs: the same of the prompt's tokens.
        constraint: the grammar that the text follows.
        sample: which of several texts of the same prompt and seed this is.
        continues: the text continues one, so that sentencepiece keeps a leading space.
        slide: continue past a bounded context: whenever it is full, its newest half is read again.
        ignore_end: tokens that end a text do not end this one.
        shown: special tokens whose names the text shows; it leaves out the others.
    """

    prompt: tuple[int, ...]
    max_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None
    sample: int = 0
    continues: bool = False
    slide: bool = False
    ignore_end: bool = False
    shown: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TokenLogprob:
    """A token's log-probability in nats, and those of the likeliest tokens in its place.

    They are the model's own: the log-softmax of its logits, before penalties, bias, grammar,
    temperature and filters; no less than -9999.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A piece of generated text; `finish` is set on the last one.

    `end`: the model ended the text or its turn; `stop`: a stop string came; `length`: `max_tokens`
    were made; `cancelled`; `error`: the stream's `error` says which. `tokens` are those drawn since
    the last piece, one that ends the text included, and `logprobs` theirs where asked for.
    """

    text: str
    num_tokens: int
    finish: Finish | None = None
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Result:
    """All that was generated for a request; see Chunk and Stream."""

    text: str
    tokens: tuple[int, ...]
    finish: Finish
    logprobs: tuple[TokenLogprob, ...]
    prompt_tokens: int
    cached_tokens: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None


@runtime_checkable
class Driver(Protocol):
    """What brings a stream its chunks: the engine."""

    def wait_for(self, stream: "Stream") -> None:
        """Return when the stream has a chunk."""

    def cancel(self, stream: "Stream") -> None:
        """End the stream's request."""


class Stream:
    """The chunks of one request as they are made.

    `cached_tokens` of its `prompt_tokens` were found in the prefix cache. `prompt_logprobs`, where
    asked for, has an entry for each token of the prompt, None for the first. `finish` is set with
    the last chunk, `error` where that is "error", and `stopped_by`, the stop string, where it is
    "stop".
    """

    def __init__(
        self, request: Request, driver: Driver, on_chunk: Callable[[Chunk], None] | None = None
    ) -> None:
        self.request, self.prompt_tokens = request, len(request.prompt)
        self.cached_tokens = 0
        self.prompt_logprobs: list[TokenLogprob | None] | None = None
        self.finish: Finish | None = None
        self.error: Exception | None = None
        self.stopped_by: str | None = None
        self.cancelled = False
        self._driver, self._on_chunk = driver, on_chunk
        self._chunks = deque[Chunk]()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if not self._chunks and self.finish is None:
            self._driver.wait_for(self)
        if not self._chunks:
            raise StopIteration
        chunk = self._chunks.popleft()
        if self.error is not None and chunk.finish == "error":
            raise self.error
        return chunk

    @property
    def has_news(self) -> bool:
        """Whether the next chunk is there, or none will come."""
        return bool(self._chunks) or self.finish is not None

    def push(self, chunk: Chunk) -> None:
        """Hand out a chunk; called by the engine alone."""
        if self._on_chunk is None:
            self._chunks.append(chunk)
        self.finish = chunk.finish
        if self._on_chunk is not None:
            try:
                self._on_chunk(chunk)
            except Exception:  # whoever listens is gone; nobody else shall suffer
                logger.exception("a request is cancelled, as its chunk could not be handed out")
                self.cancelled = True

    def cancel(self) -> None:
        """End the request now and free its memory; what was made stays readable."""
        self._driver.cancel(self)

    def result(self) -> Result:
        """All of it, once the last chunk has come.

        Raises:
            Cancelled: the request was cancelled.
            NotFiniteError: the model computed NaN or infinity.
        """
        chunks = list(self)
        finish = chunks[-1].finish if chunks else None
        if finish is None or finish == "cancelled":
            raise Cancelled("the request was cancelled before its text was complete.")
        return Result(
            "".join(chunk.text for chunk in chunks),
            tuple(token for chunk in chunks for token in chunk.tokens),
            finish,
            tuple(one for chunk in chunks for one in chunk.logprobs),
            self.prompt_tokens,
            self.cached_tokens,
            None if self.prompt_logprobs is None else tuple(self.prompt_logprobs),
        )

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
