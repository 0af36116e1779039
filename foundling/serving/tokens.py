"""/tokenize, /detokenize and /tokenizer_info, as lm-evaluation-harness and vLLM's clients ask."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from foundling.serving.answering import record_of
from foundling.serving.bodies import Body, check_token
from foundling.serving.completions import begun
from foundling.serving.service import Service


class TokenizeBody(Body):
    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeBody(Body):
    model: str | None = None
    tokens: Annotated[list[int], Field(max_length=2**20)]


def router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/tokenize")
    async def tokenize(body: TokenizeBody, request: Request) -> dict[str, Any]:
        """The tokens of a text; special tokens that it spells are these tokens."""
        name = body.model or service.registry.first
        async with service.registry.use(name) as served:
            record_of(request).model = served.name
            tokens = served.tokenizer.encode_spelled([body.prompt])[0]
            if body.add_special_tokens:
                tokens = begun(tokens, served.tokenizer)
            return {"tokens": tokens, "count": len(tokens), "max_model_len": served.max_context}

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeBody, request: Request) -> dict[str, str]:
        """The text of tokens, special ones by their names."""
        async with service.registry.use(body.model or service.registry.first) as served:
            record_of(request).model = served.name
            for token in body.tokens:
                check_token(token, served, f"tokens: {token} is no token", "tokens")
            return {"prompt": served.tokenizer.decode(body.tokens, show_special=True)}

    @router.get("/tokenizer_info")
    async def tokenizer_info(model: str | None = None) -> dict[str, Any]:
        """The marks of a text and the chat template, of the first model where none is named."""
        async with service.registry.use(model or service.registry.first) as served:
            tokenizer, template = served.tokenizer, served.tokenizer.template
            return {
                "tokenizer_class": "Foundling",
                "bos_token": tokenizer.begin_name,
                "eos_token": tokenizer.end_name,
                "pad_token": tokenizer.pad_name,
                "vocab_size": tokenizer.vocab_size,
                "model_max_length": served.max_context,
                "chat_template": None if template is None else template.source,
            }

    return router
