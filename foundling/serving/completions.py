"""/v1/completions: texts or tokens continued, or scored."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator, Field

from foundling.generation import request as generation
from foundling.generation.request import Chunk, TokenLogprob
from foundling.serving.answering import DONE, EventStream, event, record_of, while_connected
from foundling.serving.bodies import MOST_TOP, Drawn, check_length, check_token
from foundling.serving.errors import ApiError
from foundling.serving.generating import FINISH_REASONS, Generation
from foundling.serving.logprobs import CompletionLogprobs, joined
from foundling.serving.registry import Served
from foundling.serving.service import Service
from foundling.text.tokenizer import Tokenizer

MOST_PROMPTS = 256
DEFAULT_MAX_TOKENS = 16
"""As at OpenAI, or what the context holds."""
REFUSED = (
    *("suffix", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar"),
    *("structured_outputs", "response_format", "min_tokens", "stop_token_ids", "bad_words"),
    *("use_beam_search", "truncate_prompt_tokens", "prompt_logprobs", "typical_p", "tools"),
)


def listed(value: Any, most: int = MOST_PROMPTS) -> list[str | list[int]]:
    """A text, tokens, or a list of either, as a list.

    Raises:
        ValueError: it is none of these, or holds more than `most`.
    """
    is_token = [isinstance(one, int) and not isinstance(one, bool) for one in _items(value)]
    found = [value] if isinstance(value, str) or (is_token and all(is_token)) else value
    if not isinstance(found, list) or not found or not all(map(_is_prompt, found)):
        raise ValueError("give a text, a list of tokens, or a list of texts or of lists of tokens")
    if len(found) > most:
        raise ValueError(f"give at most {most} at a time")
    return found


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_prompt(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return bool(_items(value)) and all(type(one) is int for one in value)


Prompts = Annotated[
    list[str | list[int]],
    BeforeValidator(listed),
    Field(json_schema_extra={"type": ["array", "string"]}),
]


class CompletionBody(Drawn):
    prompt: Prompts
    max_tokens: Annotated[int, Field(ge=0, description="0 with echo: only scored.")] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    best_of: int | None = None
    add_special_tokens: bool = True


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is read; `text` is what `echo` repeats."""

    tokens: tuple[int, ...]
    text: str
    continues: bool
    num_added: int = 0
    """How many of the first tokens do not stand in the text: the mark that begins a text."""


def read_prompt(prompt: str | Sequence[int], tokenizer: Tokenizer, *, begin: bool = True) -> Prompt:
    """The tokens of a text, with the mark that begins a text, or tokens as they are.

    Special tokens that the text spells are these tokens: the text is the model's raw input.

    Raises:
        ApiError: there is no such token.
        ConfigError: the vocabulary of characters lacks one of the text's.
    """
    if isinstance(prompt, str):
        own = tokenizer.encode_spelled([prompt])[0]
        tokens = begun(own, tokenizer if begin else None) or [tokenizer.end_of_text]
        return Prompt(tuple(tokens), prompt, prompt != "", len(tokens) - len(own))
    for token in prompt:
        check_token(token, tokenizer, f"prompt: {token} is no token", "prompt")
    return Prompt(tuple(prompt), tokenizer.decode(prompt, show_special=True), True)


def begun(tokens: list[int], tokenizer: Tokenizer | None) -> list[int]:
    """The tokens with the mark that begins a text, once."""
    begin = tokenizer.begin_ids if tokenizer else []
    return tokens if tokens[: len(begin)] == begin else [*begin, *tokens]


def router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Continue a text as it stands, without a chat template."""
        body.check_known(REFUSED)
        if body.best_of not in (None, body.n or 1):
            raise ApiError(400, "best_of: this server makes no more than n.", param="best_of")
        if body.echo and body.stream and body.logprobs is not None:
            raise ApiError(
                400, "stream: a prompt is scored as a whole; leave it out.", param="stream"
            )
        answer = await while_connected(request, _started(service, body, request))
        if body.stream:
            return EventStream(request, answer.events(), answer.work.close)
        try:
            return await while_connected(request, answer.whole())
        finally:
            answer.work.close()

    return router


async def _started(service: Service, body: CompletionBody, request: Request) -> "_Answer":
    served = await service.take(body.model, record_of(request))
    try:
        prompts, requests = await asyncio.to_thread(_requests, body, served)
    except BaseException:
        service.registry.give_back(served)
        raise
    work = await Generation.started(service, served, requests, record_of(request))
    return _Answer(body, prompts, work)


def _requests(
    body: CompletionBody, served: Served
) -> tuple[list[Prompt], list[generation.Request]]:
    sampling = body.sampling(served)
    begin = body.add_special_tokens
    prompts = [read_prompt(one, served.tokenizer, begin=begin) for one in body.prompt]
    requests = []
    for prompt in prompts:
        check_length(len(prompt.tokens), body.max_tokens, served, "prompt", "max_tokens")
        most = body.max_tokens
        if most is None:
            most = min(DEFAULT_MAX_TOKENS, served.room(len(prompt.tokens)))
        for sample in range(body.n or 1):
            scored = body.echo and body.logprobs is not None
            requests.append(
                generation.Request(
                    prompt.tokens,
                    most,
                    sampling,
                    tuple(body.stop or ()),
                    logprobs=body.logprobs,
                    prompt_logprobs=body.logprobs if scored else None,
                    sample=sample,
                    continues=prompt.continues,
                    ignore_end=bool(body.ignore_eos),
                )
            )
    return prompts, requests


class _Answer:
    """What is sent of the texts of one request."""

    def __init__(self, body: CompletionBody, prompts: list[Prompt], work: Generation) -> None:
        self.work, self._body = work, body
        self._prompts = [prompt for prompt in prompts for _ in range(body.n or 1)]
        self._frame = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": work.served.name,
        }

    async def whole(self) -> Response:
        # In a thread: the scores of many long prompts are many megabytes.
        return await asyncio.to_thread(self._made, await self.work.collected())

    def _made(self, answers: list[list[Chunk]]) -> Response:
        choices = []
        for index, chunks in enumerate(answers):
            logprobs = self._logprobs(index)
            told = None
            if logprobs is not None:
                tokens = [token for chunk in chunks for token in chunk.tokens]
                told = logprobs.made(tokens, [one for chunk in chunks for one in chunk.logprobs])
                scored = self.work.streams[index].prompt_logprobs
                if scored is not None:
                    told = joined(*self._scored(self._prompts[index], scored), told)
            prompt, text = self._prompts[index], "".join(chunk.text for chunk in chunks)
            finish = chunks[-1].finish
            assert finish is not None
            choices.append(
                {
                    "index": index,
                    "text": (prompt.text if self._body.echo else "") + text,
                    "logprobs": told,
                    "finish_reason": FINISH_REASONS[finish],
                }
            )
        usage = self.work.usage.as_json()
        return JSONResponse({**self._frame, "choices": choices, "usage": usage})

    async def events(self) -> AsyncIterator[bytes]:
        logprobs = [self._logprobs(index) for index in range(len(self._prompts))]
        if self._body.echo:
            for index, prompt in enumerate(self._prompts):
                yield self._event(index, prompt.text, None, None)
        async for index, chunk in self.work:
            told, finish = logprobs[index], chunk.finish
            yield self._event(
                index,
                chunk.text,
                None if told is None else told.made(chunk.tokens, chunk.logprobs),
                finish and FINISH_REASONS[finish],
            )
        if self._body.include_usage:
            yield event({**self._frame, "choices": [], "usage": self.work.usage.as_json()})
        yield DONE

    def _logprobs(self, index: int) -> CompletionLogprobs | None:
        if self._body.logprobs is None:
            return None
        prompt = self._prompts[index]
        echoed = len(prompt.text) if self._body.echo else 0
        return CompletionLogprobs(
            self.work.served.tokenizer, continues=prompt.continues, offset=echoed
        )

    def _scored(
        self, prompt: Prompt, scored: Sequence[TokenLogprob | None]
    ) -> Iterator[dict[str, Any]]:
        """The logprobs of a prompt: of what was added to its text, and of what stands in it."""
        added, tokenizer = prompt.num_added, self.work.served.tokenizer
        for part, in_text in ((slice(added), False), (slice(added, None), True)):
            made = CompletionLogprobs(tokenizer, continues=False, offset=0, show_special=in_text)
            yield made.made(prompt.tokens[part], scored[part])

    def _event(
        self, index: int, text: str, logprobs: dict[str, Any] | None, finish: str | None
    ) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if self._body.include_usage else {}
        return event({**self._frame, "choices": [choice], **usage})
