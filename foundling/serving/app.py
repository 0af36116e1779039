"""The HTTP interface with all that stands before it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from foundling import __version__
from foundling.preferences.store import PreferenceStore
from foundling.runs.run import tuned_on_turns
from foundling.serving import chat, completions, embeddings, health, messages, responses, tokens
from foundling.serving.errors import ApiError, add_handlers, error_response
from foundling.serving.gate import Gate, Journal
from foundling.serving.page import PageModel, add_page, page_router
from foundling.serving.registry import Registry, Source
from foundling.serving.service import Service
from foundling.serving.settings import ServingSettings
from foundling.web.door import Door


def create_app(
    registry: Registry,
    settings: ServingSettings | None = None,
    *,
    keys: Iterable[str] = (),
    base: str = "http://localhost",
    votes: PreferenceStore | None = None,
) -> FastAPI:
    """The server's interface; its `state.service` is what all of it shares.

    Args:
        keys: who gives one of these may use it; none: everybody may.
        base: the address that people open.
        votes: where the votes of the page are kept; None: nowhere.
    """
    settings = settings or ServingSettings()
    service = Service(registry, settings, frozenset(keys))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await registry.close()

    def refuse(status: int, detail: str, path: str) -> Response:
        return error_response(ApiError(status, detail), path)

    door = Middleware(
        Door, base, settings.host, limit=settings.max_body, origins=settings.cors, refuse=refuse
    )
    sites = [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    ]
    app = FastAPI(
        title="Foundling",
        version=__version__,
        # FastAPI's own page of documentation would load scripts from another server.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(Journal, service),
            door,
            *(sites if settings.cors else []),
            Middleware(Gate, service),
        ],
    )
    app.state.service = service
    add_handlers(app)
    for part in (health, chat, completions, responses, messages, embeddings, tokens):
        app.include_router(part.router(service))
    add_page(app)
    app.include_router(page_router(lambda: _shown(registry), votes))
    return app


def _shown(registry: Registry) -> list[PageModel]:
    return [
        PageModel(id=one.name, chat=_chats(one), context=one.max_context)
        for one in registry.sources.values()
    ]


def _chats(source: Source) -> bool:
    """Whether it answers; Foundling's own vocabulary knows roles before a model learns them."""
    return source.tokenizer.knows_roles and tuned_on_turns(source.folder) is not False
