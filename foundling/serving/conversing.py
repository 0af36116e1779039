"""From a conversation to requests of the engine, and from its chunks to answers.

What chat completions, responses and messages have in common: each of these only translates.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fastapi import Request

from foundling.base.config import ConfigError
from foundling.generation import request as generation
from foundling.generation.grammar import Constraint, Grammar
from foundling.generation.request import Chunk, TokenLogprob
from foundling.generation.sampling import Sampling
from foundling.serving.answer_reader import AnswerReader, Kind
from foundling.serving.answering import record_of, while_connected
from foundling.serving.bodies import check_length
from foundling.serving.errors import ApiError
from foundling.serving.generating import FINISH_REASONS, Generation
from foundling.serving.registry import Served
from foundling.serving.response_format import schema_of
from foundling.serving.service import Service
from foundling.serving.tool_calls import (
    CHOICES,
    answer_grammar,
    answer_readers,
    check_tools,
    with_known_ids,
)
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
    format_field: str = "response_format"
    """What the client calls it."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """Values of variables of the chat template, such as enable_thinking."""
    thinks: bool | None = None
    """Whether the model thinks before it answers, where its template can be told; None: as it
    does by itself."""


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
    field: str = "messages"
    """What the client calls the conversation."""


@dataclass(frozen=True)
class CallDelta:
    """A piece of a tool call; the first one of each call has its id and name."""

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


@dataclass(frozen=True)
class Delta:
    """A piece of an answer; the last one has a `finish`: stop, length or tool_calls.

    `num_tokens` were generated up to its end.
    """

    text: str = ""
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: str | None = None
    num_tokens: int = 0

    def parts(self) -> Iterator[tuple[Kind, str, CallDelta | None]]:
        """Its parts in the order in which they are written: their kind, their text, their call."""
        if self.reasoning:
            yield "reasoning", self.reasoning, None
        if self.text:
            yield "text", self.text, None
        for call in self.calls:
            yield "call", call.arguments, call


class Reader:
    """Tells what is text, reasoning and a tool call in what a model writes."""

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader

    @property
    def is_cut(self) -> bool:
        """Whether a call has begun whose arguments are not complete."""
        return self._reader.is_in_arguments

    def read(self, chunk: Chunk) -> Delta:
        """What is certain after this chunk, its `finish` and `logprobs` aside.

        After the last chunk (it has a `finish`) nothing is held back.
        """
        pieces = self._reader.push(chunk.text)
        if chunk.finish is not None:
            pieces += self._reader.finish()
        calls = [(piece, piece.call) for piece in pieces if piece.call is not None]
        return Delta(
            "".join(piece.text for piece in pieces if piece.kind == "text"),
            "".join(piece.text for piece in pieces if piece.kind == "reasoning"),
            tuple(
                CallDelta(call.index, id=call.id, name=call.name)
                if piece.begins_call
                else CallDelta(call.index, piece.text)
                for piece, call in calls
            ),
        )


class Form:
    """What the answers to a conversation look like, and how they are read.

    Raises:
        ApiError: tools, their choice, or the format of the response cannot be followed.
    """

    def __init__(self, served: Served, conversation: Conversation) -> None:
        self._served = served
        self._tokenizer = spoken_by(served.tokenizer, conversation)
        tools, choice = conversation.tools, conversation.tool_choice
        param = "tools"
        try:
            check_tools(tools)
            self._new_reader = answer_readers(self._tokenizer, tools, choice)
            self.shown = self._new_reader().shown
            param = conversation.format_field
            schema = schema_of(conversation.response_format, param)
            if schema is not None:
                Grammar.json_schema(schema)  # says what is wrong with it
            is_known = choice in CHOICES or any(t["function"]["name"] == choice for t in tools)
            param = "tools" if is_known else "tool_choice"
            self._grammar = answer_grammar(
                self._tokenizer, tools, choice, parallel=conversation.parallel, schema=schema
            )
        except ConfigError as error:
            raise ApiError(400, str(error), param=param) from None

    def reader(self) -> Reader:
        """What reads one answer."""
        return Reader(self._new_reader())

    def constraint(self) -> Constraint | None:
        """What one answer must follow, from its beginning."""
        if self._grammar is None:
            return None
        return self._grammar.constraint(self._served.tokenizer)  # which has been read already


def spoken_by(tokenizer: Tokenizer, conversation: Conversation) -> Tokenizer:
    """A model's tokenizer, with the options that a conversation gives its template.

    Raises:
        ApiError: the template reads no such option.
    """
    options = dict(conversation.template_options)
    template = tokenizer.template
    if conversation.thinks is not None and template and "enable_thinking" in template.variables:
        options.setdefault("enable_thinking", conversation.thinks)
    try:
        return tokenizer.with_template_options(options) if options else tokenizer
    except ConfigError as error:
        raise ApiError(400, str(error), param="chat_template_kwargs") from None


def prompt_of(tokenizer: Tokenizer, conversation: Conversation) -> tuple[int, ...]:
    """The conversation up to where the answer begins, as the model's template writes it.

    Raises:
        ConfigError: the template refuses the messages, or reads no such option.
    """
    tokenizer = spoken_by(tokenizer, conversation)
    tools = () if conversation.tool_choice == "none" else conversation.tools
    known = with_known_ids(conversation.messages, tokenizer)
    messages = [_known(message, tokenizer) for message in known]
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
            if finish == "stop" and called[index] and not self._readers[index].is_cut:
                finish = "tool_calls"
            yield (
                index,
                replace(
                    delta,
                    logprobs=chunk.logprobs,
                    finish=finish,
                    num_tokens=chunk.num_tokens,
                ),
            )

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
        deltas[-1].num_tokens,
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
    served = await service.take(model, record_of(request))
    try:
        settled = wanted if isinstance(wanted, Wanted) else wanted(served)
        form = await asyncio.to_thread(Form, served, conversation)
        requests = await asyncio.to_thread(_requests, served, conversation, form, settled)
        readers = [form.reader() for _ in requests]
    except BaseException:
        service.registry.give_back(served)
        raise
    return Answers(await Generation.started(service, served, requests, record_of(request)), readers)


def _requests(
    served: Served, conversation: Conversation, form: Form, wanted: Wanted
) -> list[generation.Request]:
    try:
        prompt = prompt_of(served.tokenizer, conversation)
    except ConfigError as error:
        raise ApiError(400, str(error), param=wanted.field) from None
    check_length(len(prompt), wanted.max_tokens, served, wanted.field, wanted.limit)
    return [
        generation.Request(
            prompt,
            wanted.max_tokens,
            wanted.sampling,
            wanted.stop,
            logprobs=wanted.logprobs,
            constraint=form.constraint(),
            shown=form.shown,
            sample=sample,
            ignore_end=wanted.ignore_end,
        )
        for sample in range(wanted.n)
    ]
