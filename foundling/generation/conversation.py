"""Answers in a conversation, as long as the context lets it grow."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from foundling.base.config import ConfigError
from foundling.generation.engine import Engine
from foundling.text.chat import Message, Tools, later_exchanges, render_prompt

logger = logging.getLogger(__name__)


def answer(
    engine: Engine,
    messages: Sequence[Message],
    *,
    tools: Tools = (),
    max_tokens: int | None = None,
    **options: Any,
) -> Iterator[str]:
    """The assistant's next answer, piece by piece; the options are those of `Engine.stream`.

    Raises:
        ConfigError: as `fitting_prompt`.
    """
    prompt = fitting_prompt(engine, messages, tools=tools, max_tokens=max_tokens)
    for chunk in engine.stream(prompt, max_tokens=max_tokens, **options):
        yield chunk.text


def fitting_prompt(
    engine: Engine,
    messages: Sequence[Message],
    *,
    tools: Tools = (),
    max_tokens: int | None = None,
) -> list[int]:
    """The conversation up to where the next answer begins, as tokens that leave room for it.

    Where the conversation has outgrown the context, its oldest exchanges are left out, whole, and
    a warning says how many.

    Raises:
        ConfigError: the last message alone does not fit, or the roles are out of order.
    """
    kept, bound = tuple(messages), engine.model.max_context
    prompt = render_prompt(kept, engine.tokenizer, tools=tools)
    least = max_tokens or 1
    while bound is not None and len(prompt) + least > bound + 1:
        later = later_exchanges(kept, len(kept))
        if later is None:  # the last exchange stays
            break
        kept = later
        prompt = render_prompt(kept, engine.tokenizer, tools=tools)
    if len(kept) < len(messages):
        logger.warning(
            f"the context is full: {len(messages) - len(kept)} earlier messages are left out."
        )
    if bound is not None and len(prompt) > bound:
        raise ConfigError(
            f"the message has {len(prompt)} tokens with its roles and the model reads at most "
            f"{bound}; shorten it."
        )
    return prompt
