"""From a conversation to requests of the engine, and from its chunks to answers.

What chat completions, responses and messages have in common: each of these only translates.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fastapi import Request

from foundling.base.config import ConfigError
from foundling.generation import request as generation
from foundling.generation.grammar import Constraint
from foundling.generation.request import Chunk, TokenLogprob
from foundling.generation.sampling import Sampling
from foundling.serving.answering import record_of, while_connected
from foundling.serving.bodies import check_length
from foundling.serving.errors import ApiError
from foundling.serving.generating import FINISH_REASONS, Generation
from foundling.serving.registry import Served
from foundling.serving.service import Service
from foundling.text.chat import Message, Tools, render_prompt
from foundling.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Conversation:
    """What a model is to answer, and in which form."""

    messages: tuple[Message, ...]
    tools: Tools = ()
    tool_choice: str = "auto"
    """"none", "auto", "required", or the name of the tool that is to be called."""
    parallel: bool = True
    """Several tools may be called in one answer."""
    response_format: Mapping[str, Any] | None = None
    """As chat completions say it: {"type": "json_schema", "json_schema": {...}}."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """Values of variables of the chat template, such as enable_thinking."""


@dataclass(frozen=True)
class Wanted:
    """How the answers are generated; `limit` is what the client calls `max_tokens`."""

    sampling: Sampling
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    logprobs: int | None = None
    ignore_end: bool = False
    limit: str = "max_tokens"


@dataclass(frozen=True)
class CallDelta:
    """A piece of a tool call; the first one of each call has its id and name."""

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


@dataclass(frozen=True)
class Delta:
    """A piece of an answer; the last one has a `finish`: stop, length or tool_calls."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: str | None = None


class Reader(Protocol):
    """Tells what is text, reasoning and a tool call in what a model writes."""

    def read(self, chunk: Chunk) -> Delta:
        """What is certain after this chunk, its `finish` and `logprobs` aside.

        After the last chunk (it has a `finish`) nothing is held back.
        """


class PlainReader:
    """All of it is text."""

    def read(self, chunk: Chunk) -> Delta:
        return Delta(chunk.text)


def reader_of(served: Served, conversation: Conversation) -> Reader:
    """What reads one answer."""
    return PlainReader()


def constraint_of(served: Served, conversation: Conversation) -> Constraint | None:
    """What one answer must follow, from its beginning."""
    if conversation.tools or conversation.response_format:
        raise ApiError(400, "tools and response_format are not supported yet.")
    return None


def prompt_of(served: Served, conversation: Conversation) -> tuple[int, ...]:
    """The conversation up to where the answer begins, as the model's template writes it.

    Raises:
        ConfigError: the template refuses the messages, or reads no such option.
    """
    tokenizer = served.tokenizer
    if conversation.template_options:
        tokenizer = tokenizer.with_template_options(conversation.template_options)
    tools = () if conversation.tool_choice == "none" else conversation.tools
    messages = [_known(message, tokenizer) for message in conversation.messages]
    return tuple(render_prompt(messages, tokenizer, tools=tools, any_order=True))


def _known(message: Message, tokenizer: Tokenizer) -> Message:
    """A developer's message as the system's, where the template does not know the former."""
    template = tokenizer.template
    if message.role != "developer" or template is None or "developer" in template.source:
        return message
    return replace(message, role="system")


class Answers:
    """The answers to a conversation while they are written.

    It holds the model until `close`.
    """

    def __init__(self, work: Generation, readers: list[Reader]) -> None:
        self.work, self._readers = work, readers
        self.close = work.close

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        """The pieces of all answers as they come, each with the index of its answer.

        Raises:
            ApiError: the time is up, or the engine failed.
        """
        called = [False] * len(self._readers)
        async for index, chunk in self.work:
            delta = self._readers[index].read(chunk)
            called[index] |= bool(delta.calls)
            finish = None if chunk.finish is None else FINISH_REASONS[chunk.finish]
            if finish == "stop" and called[index]:
                finish = "tool_calls"
            yield index, replace(delta, logprobs=chunk.logprobs, finish=finish)

    async def collected(self) -> list[Delta]:
        """Each answer as one delta, whose calls are whole."""
        found: list[list[Delta]] = [[] for _ in self._readers]
        async for index, delta in self.deltas():
            found[index].append(delta)
        return [joined(deltas) for deltas in found]


def joined(deltas: Iterable[Delta]) -> Delta:
    """One delta of several."""
    deltas = list(deltas)
    calls: dict[int, CallDelta] = {}
    for one in (call for delta in deltas for call in delta.calls):
        first = calls.setdefault(one.index, replace(one, arguments=""))
        calls[one.index] = replace(first, arguments=first.arguments + one.arguments)
    return Delta(
        "".join(delta.text for delta in deltas),
        "".join(delta.reasoning for delta in deltas),
        tuple(calls.values()),
        tuple(one for delta in deltas for one in delta.logprobs),
        deltas[-1].finish,
    )


async def answers(
    service: Service,
    request: Request,
    model: str | None,
    conversation: Conversation,
    wanted: "Wanted | WantedOf",
) -> Answers:
    """Ask a model; what it writes comes from what this returns.

    Args:
        wanted: how the answers are generated, or what says so once the model is known.

    Raises:
        ApiError: there is no such model, or what is asked does not fit it.
        ConfigError: the conversation cannot be written, or a setting is wrong.
        QueueFull: too many wait.
        ClientGone: the client went away meanwhile.
    """
    return await while_connected(request, _asked(service, request, model, conversation, wanted))


class WantedOf(Protocol):
    def __call__(self, served: Served) -> Wanted: ...


async def _asked(
    service: Service,
    request: Request,
    model: str | None,
    conversation: Conversation,
    wanted: "Wanted | WantedOf",
) -> Answers:
    served = await service.registry.take(model)
    try:
        settled = wanted if isinstance(wanted, Wanted) else wanted(served)
        requests = await asyncio.to_thread(_requests, served, conversation, settled)
        readers = [reader_of(served, conversation) for _ in requests]
    except BaseException:
        service.registry.give_back(served)
        raise
    return Answers(await Generation.started(service, served, requests, record_of(request)), readers)


def _requests(
    served: Served, conversation: Conversation, wanted: Wanted
) -> list[generation.Request]:
    try:
        prompt = prompt_of(served, conversation)
    except ConfigError as error:
        raise ApiError(400, str(error), param="messages") from None
    check_length(len(prompt), wanted.max_tokens, served, "messages", wanted.limit)
    return [
        generation.Request(
            prompt,
            wanted.max_tokens,
            wanted.sampling,
            wanted.stop,
            logprobs=wanted.logprobs,
            constraint=constraint_of(served, conversation),
            sample=sample,
            ignore_end=wanted.ignore_end,
        )
        for sample in range(wanted.n)
    ]
