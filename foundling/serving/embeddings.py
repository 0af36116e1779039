"""/v1/embeddings: texts as vectors."""

import asyncio
import base64
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field

from foundling.serving.answering import record_of, while_connected
from foundling.serving.bodies import Body
from foundling.serving.completions import listed, read_prompt
from foundling.serving.errors import ApiError
from foundling.serving.registry import Served
from foundling.serving.service import Service

EMBEDDING = "the mean of the hidden states after the final norm, not scaled to length 1"
"""What the vector of a text is, in the description of a model."""
MOST_TEXTS = 2048
"""As at OpenAI."""

Vector = npt.NDArray[np.float32]


class EmbeddingBody(Body):
    model: str | None = None
    input: Annotated[
        list[str | list[int]],
        BeforeValidator(partial(listed, most=MOST_TEXTS)),
        Field(json_schema_extra={"type": ["array", "string"]}),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


def router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingBody, request: Request) -> dict[str, Any]:
        """Vectors of texts: the mean of the hidden states after the final norm."""
        vectors, num_tokens, name = await while_connected(
            request, _embedded(service, body, request)
        )
        as_base64 = body.encoding_format == "base64"
        shown = [_base64(one) if as_base64 else one.tolist() for one in vectors]
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(shown)
            ],
            "model": name,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        }

    return router


async def _embedded(
    service: Service, body: EmbeddingBody, request: Request
) -> tuple[list[Vector], int, str]:
    """The vectors, how many tokens were read, and the model."""
    record, limit = record_of(request), service.settings.timeout
    async with service.registry.use(body.model) as served:
        record.model = served.name
        texts = await asyncio.to_thread(_read, body, served)
        vectors = []
        try:
            async with asyncio.timeout(limit):
                for tokens in texts:  # one at a time: between two the client may go
                    vectors.append(await asyncio.to_thread(served.engine.embed, tokens))
        except TimeoutError:
            raise ApiError(
                408,
                f"The vectors were not complete after {limit:g} seconds, this server's limit.",
                headers={"x-should-retry": "false"},
            ) from None
        record.prompt_tokens = sum(map(len, texts))
        return [vector.numpy() for vector in vectors], record.prompt_tokens, served.name


def _read(body: EmbeddingBody, served: Served) -> list[tuple[int, ...]]:
    """The tokens of each text.

    Raises:
        ApiError: one is empty or too long, or vectors of this length are not to be had.
    """
    dim = served.engine.model.unembed.weight.shape[-1]
    if body.dimensions not in (None, dim):
        raise ApiError(
            400,
            f'dimensions: the vectors of "{served.name}" have {dim} numbers; leave it out.',
            param="dimensions",
        )
    texts, bound = [], served.max_context
    for number, given in enumerate(body.input):
        tokens = read_prompt(given, served.tokenizer).tokens if given else ()
        if not tokens:
            raise ApiError(400, f"input[{number}]: the text is empty.", param="input")
        if bound is not None and len(tokens) > bound:
            raise ApiError(
                400,
                f'"{served.name}" reads at most {bound} tokens, and input[{number}] has '
                f"{len(tokens)}: shorten it.",
                param="input",
                code="context_length_exceeded",
            )
        texts.append(tokens)
    return texts


def _base64(vector: Vector) -> str:
    """The numbers as float32 in little-endian order."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
