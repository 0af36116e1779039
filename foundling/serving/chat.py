"""/v1/chat/completions."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import AfterValidator, Field

from foundling.data.source_errors import RowError
from foundling.data.tool_calls import tools_of
from foundling.serving.answering import DONE, event, sent_as
from foundling.serving.bodies import MOST_TOP, Drawn, Element, Listed, ToolList
from foundling.serving.conversing import Answers, Conversation, Delta, Wanted, answers
from foundling.serving.errors import ApiError
from foundling.serving.logprobs import chat_logprobs
from foundling.serving.registry import Served
from foundling.serving.service import Service
from foundling.text.chat import Message, ToolCall, Tools

REFUSED = (
    *("functions", "function_call", "audio", "web_search_options", "guided_json", "guided_regex"),
    *("guided_choice", "guided_grammar", "structured_outputs", "grammar", "min_tokens"),
    *("stop_token_ids", "bad_words", "use_beam_search", "best_of", "echo", "prompt_logprobs"),
    *("continue_final_message", "truncate_prompt_tokens", "chat_template", "typical_p"),
)


LONGEST_OPTION = 400
"""Characters of the JSON of an option of the chat template."""


def _short(options: dict[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if len(json.dumps(value, ensure_ascii=False)) > LONGEST_OPTION:
            raise ValueError(f"{name[:40]} has more than {LONGEST_OPTION} characters")
    return options


class FunctionOfCall(Element):
    name: str
    arguments: str | dict[str, Any] = ""


class Call(Element):
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionOfCall


class Part(Element):
    type: str
    text: str | None = None


class ChatMessage(Element):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Listed[Part] | None = None
    name: str | None = None
    tool_calls: Listed[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ChatBody(Drawn):
    messages: Annotated[Listed[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    tools: ToolList[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    chat_template_kwargs: Annotated[dict[str, Any], AfterValidator(_short)] | None = None
    modalities: Listed[Literal["text"]] | None = None

    @property
    def limit(self) -> str:
        asked = self.max_completion_tokens is not None
        return "max_completion_tokens" if asked else "max_tokens"

    @property
    def num_logprobs(self) -> int | None:
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "top_logprobs: set logprobs to true too.", param="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None

    def conversation(self) -> Conversation:
        format = self.response_format
        return Conversation(
            tuple(_message(one, f"messages[{n}]") for n, one in enumerate(self.messages)),
            tools=self._tools(),
            tool_choice=self._tool_choice(),
            parallel=self.parallel_tool_calls is not False,
            response_format=None if format in (None, {"type": "text"}) else format,
            template_options=self.chat_template_kwargs or {},
        )

    def wanted(self, served: Served) -> Wanted:
        return Wanted(
            self.sampling(served),
            getattr(self, self.limit),
            tuple(self.stop or ()),
            self.n or 1,
            self.num_logprobs,
            bool(self.ignore_eos),
            self.limit,
        )

    def _tools(self) -> Tools:
        try:
            return tools_of(self.tools or [], "tools")
        except RowError as error:
            raise ApiError(400, str(error), param="tools") from None

    def _tool_choice(self) -> str:
        choice = self.tool_choice
        if isinstance(choice, dict):
            function = choice.get("function")
            choice = function.get("name") if isinstance(function, dict) else None
            if not isinstance(choice, str):
                raise ApiError(
                    400,
                    'tool_choice: give "none", "auto", "required" or '
                    '{"type": "function", "function": {"name": ...}}.',
                    param="tool_choice",
                )
        if choice not in (None, "none", "auto") and not self.tools:
            raise ApiError(400, "tool_choice: give tools too.", param="tool_choice")
        return choice or "auto"


def _message(given: ChatMessage, where: str) -> Message:
    is_assistant = given.role == "assistant"
    calls = [] if given.tool_calls is None else given.tool_calls
    if calls and not is_assistant:
        raise ApiError(400, f"{where}.tool_calls: only the assistant calls.", param="messages")
    content = _text(given.content, where)
    if content is None and not calls and not is_assistant:
        raise ApiError(400, f"{where}.content: this message needs one.", param="messages")
    return Message(
        given.role,
        content or "",
        reasoning=(given.reasoning_content or given.reasoning or "") if is_assistant else "",
        tool_calls=tuple(
            ToolCall(call.function.name, _arguments(call.function.arguments), call.id)
            for call in calls
        ),
        tool_call_id=given.tool_call_id or "",
        name=(given.name or "") if given.role == "tool" else "",
    )


def _arguments(given: str | dict[str, Any]) -> str:
    return given or "{}" if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _text(content: str | Listed[Part] | None, where: str) -> str | None:
    """The text of a content; parts that are no text are refused."""
    if content is None or isinstance(content, str):
        return content
    for number, part in enumerate(content):
        if part.type != "text" or part.text is None:
            at = f"{where}.content[{number}]"
            raise ApiError(
                400, f'{at}: a part of the type "{part.type}"; this model reads text.', param=at
            )
    return "".join(part.text or "" for part in content)


def router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Answer a conversation."""
        body.check_known(REFUSED)
        body.num_logprobs  # noqa: B018 - checked before a model is loaded
        asked = await answers(service, request, body.model, body.conversation(), body.wanted)
        sent = _Sent(body, asked)
        return await sent_as(request, sent, asked.close, stream=body.stream)

    return router


class _Sent:
    """What is sent of the answers to one request."""

    def __init__(self, body: ChatBody, asked: Answers) -> None:
        self._body, self._asked = body, asked
        self._frame = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion.chunk" if body.stream else "chat.completion",
            "created": int(time.time()),
            "model": asked.work.served.name,
        }

    async def whole(self) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "message": _said(answer),
                "logprobs": self._logprobs(answer),
                "finish_reason": answer.finish,
            }
            for index, answer in enumerate(await self._asked.collected())
        ]
        return {**self._frame, "choices": choices, "usage": self._asked.work.usage.as_json()}

    async def events(self) -> AsyncIterator[bytes]:
        for index in range(self._body.n or 1):
            yield self._event(index, {"role": "assistant", "content": ""})
        async for index, delta in self._asked.deltas():
            said = _piece(delta)
            logprobs = self._logprobs(delta)
            if said or (logprobs and logprobs["content"]):
                yield self._event(index, said, logprobs)
            if delta.finish is not None:
                yield self._event(index, {}, None, delta.finish)
        if self._body.include_usage:
            usage = self._asked.work.usage.as_json()
            yield event({**self._frame, "choices": [], "usage": usage})
        yield DONE

    def _logprobs(self, delta: Delta) -> dict[str, Any] | None:
        if not self._body.logprobs:
            return None
        tokenizer = self._asked.work.served.tokenizer
        return {"content": chat_logprobs(delta.logprobs, tokenizer), "refusal": None}

    def _event(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish: str | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if self._body.include_usage else {}
        return event({**self._frame, "choices": [choice], **usage})


def _said(answer: Delta) -> dict[str, Any]:
    """A whole answer as a message."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["content"] = answer.text or None
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    return message


def _piece(delta: Delta) -> dict[str, Any]:
    """A piece of an answer as the delta of a chunk."""
    piece: dict[str, Any] = {}
    if delta.text:
        piece["content"] = delta.text
    if delta.reasoning:
        piece["reasoning_content"] = delta.reasoning
    if delta.calls:
        piece["tool_calls"] = [
            {
                "index": call.index,
                **({"id": call.id, "type": "function"} if call.id else {}),
                "function": {
                    **({"name": call.name} if call.name else {}),
                    "arguments": call.arguments,
                },
            }
            for call in delta.calls
        ]
    return piece
