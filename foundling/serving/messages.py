"""/v1/messages and /v1/messages/count_tokens, as Anthropic's clients ask."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from foundling.serving.answering import event, record_of, sent_as
from foundling.serving.bodies import Body, Drawn, Element, Listed, Stops, ToolList
from foundling.serving.conversing import (
    Answers,
    CallDelta,
    Conversation,
    Wanted,
    answers,
    prompt_of,
)
from foundling.serving.errors import ApiError, api_error, error_body
from foundling.serving.registry import Served
from foundling.serving.service import Service
from foundling.text.chat import Message, ToolCall

PATH = "/v1/messages"
REFUSED = ("mcp_servers", "container")
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Block(Element):
    """A part of a message: text, a call of a tool or its result, or a thought."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | Listed[Block] | None" = None


class Said(Element):
    role: Literal["user", "assistant", "system"]
    content: str | Listed[Block]


class Tool(Element):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class Choice(Element):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Element):
    type: Literal["enabled", "disabled", "adaptive"]


class OutputConfig(Element):
    format: dict[str, Any] | None = None


class CountBody(Body):
    """A conversation."""

    model: str | None = None
    messages: Annotated[Listed[Said], Field(min_length=1)]
    system: str | Listed[Block] | None = None
    tools: ToolList[Tool] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    def conversation(self) -> Conversation:
        """The same for the engine.

        Raises:
            ApiError: a part of it is nothing that the models of this server read.
        """
        choice = self.tool_choice or Choice(type="auto")
        if choice.type == "tool" and not choice.name:
            raise ApiError(400, "tool_choice.name: which tool?", param="tool_choice")
        if choice.type in ("any", "tool") and not self.tools:
            raise ApiError(400, "tool_choice: give tools too.", param="tool_choice")
        if self.messages[-1].role == "assistant":
            raise ApiError(
                400,
                "messages: the last one is the assistant's; this server begins each answer anew, "
                "so end with the user's.",
                param="messages",
            )
        system = _texts(self.system or "", "system")
        said = [Message("system", system)] if system else []
        names: dict[str, str] = {}
        for number, one in enumerate(self.messages):
            said += _messages(one, f"messages[{number}]", names)
        return Conversation(
            tuple(said),
            tuple(map(_tool, self.tools or ())),
            choice.name or "" if choice.type == "tool" else _CHOICES[choice.type],
            parallel=not choice.disable_parallel_tool_use,
            response_format=self.output_config.format if self.output_config else None,
            format_field="output_config.format",
            thinks=None if self.thinking is None else self.thinking.type != "disabled",
        )


class MessagesBody(CountBody):
    """A conversation that is to be continued."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: Stops | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None

    def wanted(self, served: Served) -> Wanted:
        drawn = Drawn(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)
        stop = tuple(self.stop_sequences or ())
        return Wanted(drawn.sampling(served), self.max_tokens, stop)


def router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post(PATH)
    async def messages(body: MessagesBody, request: Request) -> Response:
        """Answer a conversation."""
        body.check_known(REFUSED)
        asked = await answers(service, request, body.model, body.conversation(), body.wanted)
        sent = _Sent(asked)
        return await sent_as(request, sent, asked.close, stream=body.stream, failed=_failed)

    @router.post(f"{PATH}/count_tokens")
    async def count_tokens(body: CountBody, request: Request) -> dict[str, int]:
        """How many tokens the model reads of a conversation."""
        body.check_known(REFUSED)
        source = service.registry.source(body.model)
        record_of(request).model = source.name
        prompt = await asyncio.to_thread(prompt_of, source.tokenizer, body.conversation())
        return {"input_tokens": len(prompt)}

    return router


class _Sent:
    """What is sent of an answer; its content is kept as it grows."""

    def __init__(self, asked: Answers) -> None:
        self._asked = asked
        self._content: list[dict[str, Any]] = []
        self._open: str | None = None
        self._arguments = ""
        self._message: dict[str, Any] = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": asked.work.served.name,
            "stop_reason": None,
            "stop_sequence": None,
        }

    async def whole(self) -> dict[str, Any]:
        async for _ in self.events():
            pass
        # A call that was cut off has no input that could be told.
        content = [block for block in self._content if block.get("input", {}) is not None]
        return {**self._message, "content": content, "usage": self._usage()}

    async def events(self) -> AsyncIterator[bytes]:
        is_begun = False
        async for _, delta in self._asked.deltas():
            if not is_begun:
                message = {**self._message, "content": [], "usage": self._usage()}
                yield _event("message_start", message=message)
                is_begun = True
            for kind, text, call in delta.parts():
                for one in self._part(kind, text, call):
                    yield one
            if delta.finish is not None:
                for one in self._closed():
                    yield one
                self._end(delta.finish)
        said = {key: self._message[key] for key in ("stop_reason", "stop_sequence")}
        yield _event("message_delta", delta=said, usage=self._usage())
        yield _event("message_stop")

    def _part(self, kind: str, text: str, call: CallDelta | None) -> Iterator[bytes]:
        """A piece of the block that is open, or of a new one."""
        if kind != self._open or (call is not None and call.id):
            yield from self._closed()
            self._open, self._arguments = kind, ""
            self._content.append(_block(kind, call))
            begun: dict[str, Any] = {"input": {}} if kind == "call" else {}
            yield self._of_block(
                "content_block_start", content_block={**self._content[-1], **begun}
            )
        block = self._content[-1]
        if kind == "text":
            block["text"] += text
            yield self._delta("text_delta", text=text)
        elif kind == "reasoning":
            block["thinking"] += text
            yield self._delta("thinking_delta", thinking=text)
        elif text:
            self._arguments += text
            yield self._delta("input_json_delta", partial_json=text)

    def _closed(self) -> Iterator[bytes]:
        """The end of the block that is open, if one is."""
        if self._open is None:
            return
        if self._open == "call":
            self._content[-1]["input"] = _object(self._arguments)
        self._open = None
        yield self._of_block("content_block_stop")

    def _end(self, finish: str) -> None:
        stopped_by = self._asked.work.streams[0].stopped_by if finish == "stop" else None
        reason = "stop_sequence" if stopped_by is not None else _STOPS[finish]
        self._message |= {"stop_reason": reason, "stop_sequence": stopped_by}

    def _delta(self, kind: str, **values: str) -> bytes:
        return self._of_block("content_block_delta", delta={"type": kind, **values})

    def _of_block(self, kind: str, **values: Any) -> bytes:
        return _event(kind, index=len(self._content) - 1, **values)

    def _usage(self) -> dict[str, int]:
        """Tokens that were read anew, those found in the cache, and those made."""
        usage = self._asked.work.usage
        return {
            "input_tokens": usage.prompt_tokens - usage.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached_tokens,
            "output_tokens": usage.completion_tokens,
        }


def _event(kind: str, **values: Any) -> bytes:
    return event({"type": kind, **values}, kind)


def _failed(error: Exception) -> bytes:
    return event(error_body(api_error(error), PATH), "error")


def _block(kind: str, call: CallDelta | None) -> dict[str, Any]:
    if call is not None:
        id = call.id.replace("call_", "toolu_", 1)
        return {"type": "tool_use", "id": id, "name": call.name, "input": None}
    if kind == "reasoning":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _object(text: str) -> dict[str, Any] | None:
    """None: it was cut off."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _tool(given: Tool) -> dict[str, Any]:
    if given.type not in (None, "custom") or given.input_schema is None:
        raise ApiError(
            400,
            f'tools: "{given.name}" is of the type "{given.type}"; this server takes tools with a '
            "name and an input_schema, which the client runs.",
            param="tools",
        )
    function: dict[str, Any] = {"name": given.name, "description": given.description or ""}
    function |= {"parameters": given.input_schema, **({"strict": True} if given.strict else {})}
    return {"type": "function", "function": function}


def _messages(given: Said, where: str, names: dict[str, str]) -> Iterator[Message]:
    """A message as one or more: each result of a tool is one by itself.

    Args:
        names: of the tools that were called, by the ids of the calls.
    """
    if isinstance(given.content, str):
        yield Message(given.role, given.content)
        return
    text, reasoning, calls = [], [], []
    for number, block in enumerate(given.content):
        at = f"{where}.content[{number}]"
        if block.type == "text":
            text.append(block.text or "")
        elif block.type == "thinking" and given.role == "assistant":
            reasoning.append(block.thinking or "")
        elif block.type == "redacted_thinking" and given.role == "assistant":
            continue  # nobody can read it
        elif block.type == "tool_use" and given.role == "assistant" and block.name:
            arguments = json.dumps(block.input or {}, ensure_ascii=False)
            calls.append(ToolCall(block.name, arguments, block.id or ""))
            names[block.id or ""] = block.name
        elif block.type == "tool_result" and given.role == "user" and block.tool_use_id:
            if text:
                yield Message("user", "".join(text))
                text = []
            result = _texts(block.content or "", f"{at}.content")
            id = block.tool_use_id
            yield Message("tool", result, tool_call_id=id, name=names.get(id, ""))
        else:
            raise ApiError(
                400, f"{at}: a block of the type {block.type!r} cannot be read here.", param=at
            )
    if text or calls or given.role == "assistant":
        said = "".join(text)
        yield Message(given.role, said, "".join(reasoning), tuple(calls))


def _texts(given: str | list[Block], where: str) -> str:
    if isinstance(given, str):
        return given
    for number, block in enumerate(given):
        if block.type != "text" or block.text is None:
            at = f"{where}[{number}]"
            raise ApiError(
                400, f"{at}: a block of the type {block.type!r}; models read text.", param=at
            )
    return "\n".join(block.text or "" for block in given)
