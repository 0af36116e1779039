"""A request while it is served: the tokens so far, and the text that is certain of them."""

from collections import Counter
from collections.abc import Collection
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from foundling.generation.blocks import Key
from foundling.generation.request import (
    LEAST_LOGPROB,
    Chunk,
    Finish,
    Stream,
    TokenLogprob,
)
from foundling.generation.sampling import RandomStream, choose
from foundling.generation.stop_strings import StopStrings
from foundling.models.finite import check_finite
from foundling.text.stream_decoder import StreamDecoder

_numbers = count()


@dataclass(eq=False)
class Sequence:
    """A request that is served.

    Args:
        budget: the most tokens that are generated.
        ends: the tokens that end the text.
        decoder: what makes the text; None: nobody reads it.
        bound: the context that slides; None: it does not.
        tokens: what the model sees of the prompt and of what was drawn.
        read: how many of these it has read.
        drawn: how many tokens were generated.
        blocks: where the keys and values of its tokens lie.
        keys: the names of its full blocks, as far as they were worked out.
        num_published: how many of its first blocks others can find.
        num_slid: how many of its first tokens the sliding context has left out of `tokens`.
        begun: it has run, though it may wait again.
    """

    stream: Stream
    budget: int
    ends: Collection[int]
    decoder: StreamDecoder | None
    bound: int | None = None
    number: int = field(default_factory=lambda: next(_numbers))
    tokens: list[int] = field(init=False)
    read: int = 0
    drawn: int = 0
    blocks: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    num_published: int = 0
    num_slid: int = 0
    begun: bool = False

    def __post_init__(self) -> None:
        self.request = self.stream.request
        self.tokens = list(self.request.prompt)
        self._random = RandomStream(
            self.request.sampling.seed, self.request.prompt, self.request.sample
        )
        self._counts = Counter[int]() if self.request.sampling.penalises else None
        self._stop = StopStrings(self.request.stop)
        self._unsent: list[int] = []
        self._unsent_logprobs: list[TokenLogprob] = []
        if self.request.prompt_logprobs is not None:
            self.stream.prompt_logprobs = [None]

    @property
    def room(self) -> int:
        """The most tokens that it comes to have read."""
        most = len(self.tokens) + self.budget - self.drawn
        return most if self.bound is None else min(most, self.bound)

    @property
    def most_ahead(self) -> int:
        """How many tokens may follow the next one."""
        left = self.budget - self.drawn - 1
        if self.bound is not None:
            left = min(left, self.bound - len(self.tokens))
        return max(0, left)  # where only the prompt is scored, there is no next one

    @property
    def reads_prompt(self) -> bool:
        """Whether log-probabilities of the prompt are still to come."""
        found = self.stream.prompt_logprobs
        return found is not None and len(found) < self.stream.prompt_tokens

    def score_prompt(self, logits: Float[Tensor, "rows vocab"], start: int) -> None:
        """Take the logits of the prompt's tokens from position `start` on."""
        found, top = self.stream.prompt_logprobs, self.request.prompt_logprobs
        assert found is not None
        assert top is not None
        del found[start + 1 :]  # where the prompt is read anew
        targets = self.request.prompt[start + 1 : start + 1 + len(logits)]
        if targets:
            log_probs = logits[: len(targets)].log_softmax(-1)
            check_finite(log_probs.amax(-1))
            found += [told(row, token, top) for row, token in zip(log_probs, targets, strict=True)]

    def draw(self, logits: Float[Tensor, " vocab"]) -> int:
        """Choose the next token, and hand out the text that is certain now.

        Raises:
            NotFiniteError: the logits are NaN or infinite.
        """
        request, constraint = self.request, self.request.constraint
        token = self._choose(logits, self.drawn, self._counts)
        if request.logprobs is not None:
            self._unsent_logprobs.append(told(logits.log_softmax(-1), token, request.logprobs))
        if self._counts is not None:
            self._counts[token] += 1
        if constraint is not None:
            constraint.accept(token)
        self.tokens.append(token)
        self.drawn += 1
        self._unsent.append(token)
        self._write(token)
        return token

    def guess(self, logits: Float[Tensor, " vocab"], draft: Many[int]) -> int | None:
        """What would be drawn of these logits behind a draft; None: the draft ends the text.

        Raises:
            ConfigError: the grammar cannot be followed behind the draft.
            NotFiniteError: the logits are NaN or infinite.
        """
        if draft and draft[-1] in self.ends:
            return None
        index = self.drawn + len(draft)
        counts = None if self._counts is None else self._counts + Counter(draft)
        constraint = self.request.constraint
        if constraint is None:
            return self._choose(logits, index, counts)
        for token in draft:
            constraint.accept(token)
        try:
            return None if constraint.finished else self._choose(logits, index, counts)
        finally:
            constraint.rollback(len(draft))

    def _choose(
        self, logits: Float[Tensor, " vocab"], index: int, counts: Counter[int] | None
    ) -> int:
        check_finite(logits.amax())  # one NaN makes the maximum NaN; -inf elsewhere is no harm
        request = self.request
        return choose(
            logits,
            request.sampling,
            self._random.uniform(index),
            prompt=request.prompt,
            counts=counts,
            allowed=None if request.constraint is None else request.constraint.mask(),
        )

    def _write(self, token: int) -> None:
        if token in self.ends:
            self.finish("end")
            return
        constraint = self.request.constraint
        text = self.decoder.push(token) if self.decoder is not None else ""
        if constraint is not None and constraint.finished:
            self.finish("end", text)
        elif self.drawn == self.budget:
            self.finish("length", text)
        else:
            text = self._stop.push(text)
            if self._stop.found:
                self._send(text, "stop")
            elif text:
                self._send(text)

    def finish(self, why: Finish, text: str = "") -> None:
        """End the text, with all that was held back of it."""
        text += self.decoder.flush() if self.decoder is not None else ""
        text = self._stop.push(text)
        if self._stop.found and why in ("length", "end"):
            why = "stop"
        self._send(text + self._stop.flush(), why)

    def fail(self, error: Exception) -> None:
        self.stream.error = error
        self.finish("error")

    def _send(self, text: str, finish: Finish | None = None) -> None:
        self.stream.stopped_by = self._stop.which if finish == "stop" else None
        tokens, logprobs = tuple(self._unsent), tuple(self._unsent_logprobs)
        self._unsent, self._unsent_logprobs = [], []
        self.stream.push(Chunk(text, self.drawn, finish, tokens, logprobs))

    def slide(self) -> bool:
        """Where the context is full, leave its newest half to be read anew."""
        if self.bound is None or len(self.tokens) <= self.bound:
            return False
        left_out = len(self.tokens) - max(1, self.bound // 2)
        del self.tokens[:left_out]
        self.num_slid += left_out
        self.read, self.keys = 0, []
        return True


def told(log_probs: Float[Tensor, " vocab"], token: int, top: int) -> TokenLogprob:
    """A token's log-probability and those of the `top` likeliest ones."""
    likeliest = torch.topk(log_probs, min(top, len(log_probs)))
    pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
    return TokenLogprob(
        token,
        max(float(log_probs[token]), LEAST_LOGPROB),
        tuple((id, max(value, LEAST_LOGPROB)) for id, value in pairs),
    )
