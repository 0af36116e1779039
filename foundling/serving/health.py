"""/health, /metrics and the list of models."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from foundling.generation.sampling import Sampling
from foundling.serving.embeddings import EMBEDDING
from foundling.serving.registry import Source
from foundling.serving.service import Service


def router(service: Service) -> APIRouter:
    router, registry = APIRouter(), service.registry

    @router.get("/health")
    async def health() -> Response:
        """Whether requests are taken; it needs no key."""
        if service.draining:
            return JSONResponse({"status": "shutting down"}, 503, {"Retry-After": "5"})
        return JSONResponse({"status": "ok"})

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Requests, tokens, times and caches of each model, for Prometheus."""
        page = service.metrics.page(registry.in_memory)
        return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """All models that can be asked."""
        return {"object": "list", "data": [_model(one) for one in registry.sources.values()]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return _model(registry.source(name))

    def _model(source: Source) -> dict[str, Any]:
        served = registry.in_memory.get(source.name)
        return {
            "id": source.name,
            "object": "model",
            "created": source.created,
            "owned_by": "foundling",
            "root": source.base,
            "max_model_len": source.max_context,
            "loaded": served is not None,
            "default_sampling": _shown(source.sampling),
            "embedding": EMBEDDING,
        }

    return router


def _shown(sampling: Sampling) -> dict[str, Any]:
    changed = sampling.model_dump(exclude_defaults=True, exclude={"seed"})
    return {"temperature": sampling.temperature, **changed}
