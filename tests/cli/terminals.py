"""Tiny models to chat with at a terminal, and what they say."""

from collections.abc import Callable
from typing import Any

import torch

from foundling import models
from foundling.generation.chat_session import ChatSession, ChatSettings
from foundling.generation.engine import Engine
from foundling.text.chat import Message
from foundling.text.tokenizer import Tokenizer

TEXT = "the miller asked the baker for the weather: rain in the village, sun on the hill."
ROLES = Tokenizer.train_bytes([TEXT], vocab_size=300)
SETTINGS = ChatSettings(temperature=0, max_tokens=8)


def engine(seed: int = 5, tokenizer: Tokenizer = ROLES, context: int = 400) -> Engine:
    torch.manual_seed(seed)
    size = {"rung": "transformer", "dim": 16}
    model = models.build(size, vocab_size=tokenizer.vocab_size, context=context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # away from uniform
    return Engine(model, tokenizer)


def answer(made: Engine, *said: str, system: str = "", **options: Any) -> str:
    """What the model says after these turns, the first of which is the user's."""
    turns = [Message(("user", "assistant")[place % 2], text) for place, text in enumerate(said)]
    front = [Message("system", system)] if system else []
    return made.chat([*front, *turns], **{"max_tokens": 8, "temperature": 0, **options})


def contents(session: ChatSession) -> list[str]:
    return [message.content for message in session.messages]


Chat = Callable[..., list[ChatSession]]
