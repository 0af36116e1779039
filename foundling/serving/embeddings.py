"""/v1/embeddings: texts as vectors."""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
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
    turns = {name: asyncio.Lock() for name in service.registry.sources}

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingBody, request: Request) -> dict[str, Any]:
        """Vectors of texts: the mean of the hidden states after the final norm."""
        vectors, num_tokens, name = await while_connected(
            request, _embedded(service, body, request, turns)
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
    service: Service, body: EmbeddingBody, request: Request, turns: Mapping[str, asyncio.Lock]
) -> tuple[list[Vector], int, str]:
    """The vectors, how many tokens were read, and the model.

    Args:
        turns: of the models: each makes one vector at a time.
    """
    record = record_of(request)
    served = await service.take(body.model, record)
    try:
        record.model = served.name
        async with asyncio.timeout(service.deadline(record) - time.monotonic()):
            texts = await asyncio.to_thread(_read, body, served)
            vectors = []
            for tokens in texts:  # between two the client may go, and others have their turn
                async with turns[served.name]:
                    vectors.append(await _to_the_end(partial(served.engine.embed, tokens)))
    except TimeoutError:
        raise service.too_late() from None
    finally:
        service.registry.give_back(served)
    record.prompt_tokens = sum(map(len, texts))
    return [vector.numpy() for vector in vectors], record.prompt_tokens, served.name


async def _to_the_end(work: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What `work` returns, in a thread; who is cancelled waits until the thread has ended."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    finally:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})


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
