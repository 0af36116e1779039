"""/v1/responses: an answer as a list of items; nothing is stored between two of them."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BeforeValidator, Field

from foundling.serving.answering import event, sent_as
from foundling.serving.bodies import Body, Drawn, Element, Listed, ToolList, at_most
from foundling.serving.conversing import Answers, CallDelta, Conversation, Wanted, answers
from foundling.serving.errors import ApiError, api_error
from foundling.serving.registry import Served
from foundling.serving.response_input import Item, messages_of
from foundling.serving.service import Service
from foundling.text.chat import Message

REFUSED = ("background", "conversation", "prompt", "top_logprobs", "context_management")
MOST_NOTES = 16
"""Members of `metadata`, as at OpenAI."""
_LEFT_OUT = "message.output_text.logprobs"


class Tool(Element):
    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Named(Element):
    type: str
    name: str = ""


class TextConfig(Element):
    format: dict[str, Any] | None = None


class Effort(Element):
    effort: str | None = None


class ResponseBody(Body):
    model: str | None = None
    input: str | Annotated[Listed[Item], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: ToolList[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | Named | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Effort | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    include: Listed[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Annotated[dict[str, str], BeforeValidator(at_most(MOST_NOTES))] | None = None

    def check(self) -> None:
        """Refuse what would change the answer and is not supported.

        Raises:
            ApiError: there is such a field.
        """
        self.check_known(REFUSED)
        if self.previous_response_id is not None:
            raise ApiError(
                400,
                "previous_response_id: this server stores no responses; give the earlier items in "
                "input.",
                param="previous_response_id",
            )
        if self.truncation == "auto":
            raise ApiError(
                400, "truncation: this server leaves nothing out of a prompt.", param="truncation"
            )
        if _LEFT_OUT in (self.include or ()):
            raise ApiError(
                400, "include: log-probabilities are given by chat completions.", param="include"
            )

    def conversation(self) -> Conversation:
        given = self.tool_choice
        choice: str = "auto" if given is None or isinstance(given, Named) else given
        if isinstance(given, Named):
            if given.type != "function" or not given.name:
                raise ApiError(
                    400,
                    'tool_choice: give "none", "auto", "required" or {"type": "function", "name": '
                    "...}.",
                    param="tool_choice",
                )
            choice = given.name
        if choice not in ("none", "auto") and not self.tools:
            raise ApiError(400, "tool_choice: give tools too.", param="tool_choice")
        said = messages_of(self.input)
        if said[-1].role == "assistant":
            raise ApiError(
                400,
                "input: the last item is the assistant's; this server begins each answer anew, so "
                "end with the user's, or with the output of a tool.",
                param="input",
            )
        if self.instructions:
            # One message, since most templates take one: with what the input begins with.
            first = said.pop(0).content if said[0].role in ("system", "developer") else ""
            content = "\n\n".join(filter(None, (self.instructions, first)))
            said.insert(0, Message("system", content))
        effort = self.reasoning.effort if self.reasoning else None
        return Conversation(
            tuple(said),
            tuple(map(_function, self.tools or ())),
            choice,
            parallel=self.parallel_tool_calls is not False,
            response_format=self.text.format if self.text else None,
            format_field="text.format",
            thinks=None if effort is None else effort != "none",
        )

    def wanted(self, served: Served) -> Wanted:
        drawn = Drawn(temperature=self.temperature, top_p=self.top_p)
        sampling = drawn.sampling(served)
        return Wanted(sampling, self.max_output_tokens, limit="max_output_tokens", field="input")


def router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/responses")
    async def responses(body: ResponseBody, request: Request) -> Response:
        """Answer a conversation; nothing of it is stored."""
        body.check()
        asked = await answers(service, request, body.model, body.conversation(), body.wanted)
        sent = _Sent(body, asked)
        return await sent_as(request, sent, asked.close, stream=body.stream, failed=sent.failed)

    return router


class _Sent:
    """What is sent of a response; its items are kept as they grow."""

    def __init__(self, body: ResponseBody, asked: Answers) -> None:
        self._asked, self._sequence, self._reasoning_tokens = asked, -1, 0
        self._items: list[dict[str, Any]] = []
        self._open: str | None = None
        sampling = asked.work.streams[0].request.sampling
        choice = body.tool_choice or "auto"
        text = body.text.format if body.text and body.text.format else {"type": "text"}
        self._response: dict[str, Any] = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": asked.work.served.name,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None},
            "store": False,
            "temperature": sampling.temperature,
            "text": {"format": text},
            "tool_choice": choice.model_dump() if isinstance(choice, Named) else choice,
            "tools": [{"strict": None, **_shown(tool)} for tool in body.tools or ()],
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "truncation": "disabled",
            "usage": None,
            "metadata": body.metadata or {},
        }

    async def whole(self) -> dict[str, Any]:
        async for _ in self.events():
            pass
        return self._response

    async def events(self) -> AsyncIterator[bytes]:
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)
        finish = "stop"
        async for _, delta in self._asked.deltas():
            for kind, text, call in delta.parts():
                for one in self._part(kind, text, call):
                    yield one
            if delta.reasoning:
                self._reasoning_tokens = delta.num_tokens
            finish = delta.finish or finish
        if not self._items:  # an answer without a word
            for one in self._part("text", "", None):
                yield one
        status = "incomplete" if finish == "length" else "completed"
        for one in self._closed(status):
            yield one
        self._end(status)
        yield self._event(f"response.{status}", response=self._response)

    def failed(self, error: Exception) -> bytes:
        """The last event, where the answer failed in mid-stream."""
        self._end("failed")
        self._response["error"] = {"code": "server_error", "message": api_error(error).message}
        return self._event("response.failed", response=self._response)

    def _part(self, kind: str, text: str, call: CallDelta | None) -> Iterator[bytes]:
        """A piece of the item that is open, or of a new one."""
        if kind != self._open or (call is not None and call.id):
            yield from self._closed("completed")
            yield from self._begun(kind, call)
        item = self._items[-1]
        if kind == "call":
            item["arguments"] += text
            name, place = "function_call_arguments", {}
        else:
            item["content"][0]["text"] += text
            name = "output_text" if kind == "text" else "reasoning_text"
            place = {"content_index": 0, **({"logprobs": []} if kind == "text" else {})}
        if text:
            yield self._of_item(f"response.{name}.delta", **place, delta=text)

    def _begun(self, kind: str, call: CallDelta | None) -> Iterator[bytes]:
        self._open = kind
        self._items.append(_item(kind, call))
        item = self._items[-1]
        place = {"output_index": len(self._items) - 1}
        begun = {**item, "content": []} if "content" in item else item
        yield self._event("response.output_item.added", **place, item=begun)
        if "content" in item:
            part = item["content"][0]
            yield self._of_item("response.content_part.added", content_index=0, part=part)

    def _closed(self, status: str) -> Iterator[bytes]:
        """The end of the item that is open, if one is."""
        if self._open is None:
            return
        item, kind = self._items[-1], self._open
        self._open, item["status"] = None, status
        if kind == "call":
            said = {"arguments": item["arguments"], "name": item["name"]}
            yield self._of_item("response.function_call_arguments.done", **said)
        else:
            name = "output_text" if kind == "text" else "reasoning_text"
            part = item["content"][0]
            values = {"text": part["text"], **({"logprobs": []} if kind == "text" else {})}
            yield self._of_item(f"response.{name}.done", content_index=0, **values)
            yield self._of_item("response.content_part.done", content_index=0, part=part)
        place = {"output_index": len(self._items) - 1}
        yield self._event("response.output_item.done", **place, item=item)

    def _end(self, status: str) -> None:
        usage = self._asked.work.usage
        self._response |= {"status": status, "output": self._items}
        if status == "incomplete":
            self._response["incomplete_details"] = {"reason": "max_output_tokens"}
        self._response["usage"] = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": self._reasoning_tokens},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }

    def _of_item(self, kind: str, **values: Any) -> bytes:
        place = {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}
        return self._event(kind, **place, **values)

    def _event(self, kind: str, **values: Any) -> bytes:
        self._sequence += 1
        return event({"type": kind, "sequence_number": self._sequence, **values}, kind)


def _item(kind: str, call: CallDelta | None) -> dict[str, Any]:
    """An item of the output without text yet."""
    if call is not None:
        return {
            "id": f"fc_{secrets.token_hex(12)}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
    if kind == "reasoning":
        return {
            "id": f"rs_{secrets.token_hex(12)}",
            "type": "reasoning",
            "status": "in_progress",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": ""}],
        }
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}],
    }


def _function(tool: Tool) -> dict[str, Any]:
    """A tool as chat templates take it."""
    if tool.type != "function" or not tool.name:
        raise ApiError(
            400,
            f'tools: one of the type "{tool.type}"; this server takes functions with a name, which '
            "the client runs.",
            param="tools",
        )
    return {"type": "function", "function": {k: v for k, v in _shown(tool).items() if k != "type"}}


def _shown(tool: Tool) -> dict[str, Any]:
    return tool.model_dump(exclude_none=True)
