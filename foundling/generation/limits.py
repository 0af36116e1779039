"""What an engine can serve: how long texts may be, and which tokens there are."""

from dataclasses import dataclass

from foundling.base.config import ConfigError
from foundling.generation.request import Request

UNBOUNDED_TOKENS = 256
"""What is generated where neither the request nor the context says how much."""


@dataclass(frozen=True)
class Limits:
    """The limits of a model and its cache.

    Args:
        max_context: the most tokens that the model reads; None: without bound.
        vocab_size: how many tokens there are.
        cache_tokens: the most tokens of a text that the cache holds; None: without bound.
    """

    max_context: int | None
    vocab_size: int
    cache_tokens: int | None

    def budget(self, request: Request) -> int:
        """Check a request; the most tokens that it may generate.

        Raises:
            ConfigError: the prompt and `max_tokens` do not fit the context, a stop string is
                empty, or a token or a number of alternatives is out of range.
        """
        self._check(request)
        return self._fitting(request, self._wanted(request))

    def _wanted(self, request: Request) -> int:
        bound, wanted = self.max_context, request.max_tokens
        if wanted is not None and wanted < (0 if request.prompt_logprobs is not None else 1):
            raise ConfigError(f"max_tokens = {wanted}: must be at least 1.")
        if bound is None or request.slide:
            return UNBOUNDED_TOKENS if wanted is None else wanted
        # The last token made is never read, so it needs no room.
        room = bound + 1 - len(request.prompt)
        if room < 1:
            raise ConfigError(
                f"the prompt has {len(request.prompt)} tokens and the model reads at most {bound}: "
                "shorten the prompt, or let the context slide."
            )
        if wanted is not None and wanted > room:
            raise ConfigError(
                f"max_tokens = {wanted}: the prompt has {len(request.prompt)} tokens and the model "
                f"reads at most {bound}, so at most {room} can be made; ask for fewer, or let the "
                "context slide."
            )
        return room if wanted is None else wanted

    def _fitting(self, request: Request, budget: int) -> int:
        """The tokens of a budget that the cache has room for, where no number was asked for."""
        capacity = self.cache_tokens
        if capacity is None:
            return budget
        prompt, bound = len(request.prompt), self.max_context
        if request.max_tokens is None and not request.slide:
            budget = max(1, min(budget, capacity + 1 - prompt))
        needed = prompt + max(0, budget - 1)
        if bound is not None:
            needed = min(needed, bound)
        if needed > capacity:
            raise ConfigError(
                f"the prompt has {prompt} tokens and {budget} are to be made: more than the "
                f"cache's {capacity}; ask for fewer, or give more cache_bytes."
            )
        return budget

    def _check(self, request: Request) -> None:
        size = self.vocab_size
        if not request.prompt:
            raise ConfigError("the prompt has no tokens; give at least one.")
        if any(not text for text in request.stop):
            raise ConfigError("a stop string must not be empty.")
        if unknown := [id for id in request.prompt if not 0 <= id < size]:
            raise ConfigError(f"the prompt has token {unknown[0]}: ids end at {size - 1}.")
        if unknown := [id for id in request.sampling.logit_bias if not 0 <= id < size]:
            raise ConfigError(f"logit_bias of token {unknown[0]}: ids end at {size - 1}.")
        bound = self.max_context
        if request.prompt_logprobs is not None and bound and len(request.prompt) > bound:
            raise ConfigError(
                f"prompt_logprobs: the prompt has {len(request.prompt)} tokens and the model reads "
                f"at most {bound}; shorten the prompt."
            )
        for name in ("logprobs", "prompt_logprobs"):
            if not 0 <= (getattr(request, name) or 0) <= size:
                raise ConfigError(
                    f"{name} = {getattr(request, name)}: give a number from 0 to {size}."
                )
