"""/tokenize, /detokenize and /tokenizer_info, as lm-evaluation-harness and vLLM's clients ask."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from foundling.serving.answering import record_of
from foundling.serving.bodies import Body, Listed, check_token
from foundling.serving.completions import begun
from foundling.serving.registry import Source
from foundling.serving.service import Service


class TokenizeBody(Body):
    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeBody(Body):
    model: str | None = None
    tokens: Annotated[Listed[int], Field(max_length=2**20)]


def router(service: Service) -> APIRouter:
    router, registry = APIRouter(), service.registry

    def asked(model: str | None, request: Request) -> Source:
        source = registry.source(model or registry.first)
        record_of(request).model = source.name
        return source

    # Plain functions, not coroutines: each call runs in a thread, since a text may be long.

    @router.post("/tokenize")
    def tokenize(body: TokenizeBody, request: Request) -> dict[str, Any]:
        """The tokens of a text; special tokens that it spells are these tokens."""
        source = asked(body.model, request)
        tokenizer = source.tokenizer
        tokens = tokenizer.encode_spelled([body.prompt])[0]
        tokens = begun(tokens, tokenizer) if body.add_special_tokens else tokens
        return {"tokens": tokens, "count": len(tokens), "max_model_len": source.max_context}

    @router.post("/detokenize")
    def detokenize(body: DetokenizeBody, request: Request) -> dict[str, str]:
        """The text of tokens, special ones by their names."""
        tokenizer = asked(body.model, request).tokenizer
        for token in body.tokens:
            check_token(token, tokenizer, f"tokens: {token} is no token", "tokens")
        return {"prompt": tokenizer.decode(body.tokens, show_special=True)}

    @router.get("/tokenizer_info")
    def tokenizer_info(request: Request, model: str | None = None) -> dict[str, Any]:
        """The marks of a text and the chat template, of the first model where none is named."""
        source = asked(model, request)
        tokenizer, template = source.tokenizer, source.tokenizer.template
        return {
            "tokenizer_class": "Foundling",
            "bos_token": tokenizer.begin_name,
            "eos_token": tokenizer.end_name,
            "pad_token": tokenizer.pad_name,
            "vocab_size": tokenizer.vocab_size,
            "model_max_length": source.max_context,
            "chat_template": None if template is None else template.source,
        }

    return router
