"""The HTTP interface, used by the page and by scripts of annotators."""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from foundling.base.config import ConfigError
from foundling.preferences.checks import Conflict
from foundling.preferences.records import Kind
from foundling.preferences.statistics import statistics
from foundling.studio.bodies import (
    JoinRequest,
    JoinResponse,
    Me,
    NextRequest,
    NextResponse,
    ProgressCounts,
    RenderedItem,
    Rubrics,
    RubricText,
    RubricVersion,
    Statistics,
    UndoRequest,
    UndoResponse,
    VoteRequest,
    VoteResponse,
)
from foundling.studio.desk import Desk, Forbidden


def create_app(desk: Desk) -> FastAPI:
    """The interface alone; `foundling.studio.server` adds the pages."""
    # FastAPI's own page of documentation would load scripts from another server.
    app = FastAPI(title="Foundling: comparisons", docs_url=None, redoc_url=None)
    app.include_router(_router(desk), prefix="/api")
    app.add_exception_handler(ConfigError, _refused)
    app.add_exception_handler(Forbidden, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    return app


def _router(desk: Desk) -> APIRouter:
    # Plain functions, not coroutines: FastAPI runs each call in a thread, where it may block.
    router = APIRouter()

    def known(authorization: Annotated[str | None, Header()] = None) -> str:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("give your token: Authorization: Bearer TOKEN.")
        name = desk.store.annotator_of(token.strip())
        if name is None:
            raise _unauthorized("this token is unknown, or a newer link has replaced it.")
        return name

    def known_if_any(authorization: Annotated[str | None, Header()] = None) -> str | None:
        return None if authorization is None else known(authorization)

    annotator = Annotated[str, Depends(known)]

    @router.post("/annotators")
    def join(body: JoinRequest, by: Annotated[str | None, Depends(known_if_any)]) -> JoinResponse:
        """A token; joining again under a known name ends the name's earlier token."""
        return desk.join(body, by)

    @router.get("/me")
    def me(name: annotator) -> Me:
        return desk.me(name)

    @router.post("/next")
    def next_item(body: NextRequest, name: annotator) -> NextResponse:
        return desk.next(name, body.kind, body.holding)

    @router.get("/items/{key}")
    def rendered(key: str, name: annotator) -> RenderedItem:
        return desk.rendered(name, key)

    @router.post("/votes")
    def vote(body: VoteRequest, name: annotator) -> VoteResponse:
        """Once this returns, the vote is on the disk; a retry returns the same receipt."""
        return desk.vote(name, body)

    @router.post("/undo")
    def undo(body: UndoRequest, name: annotator) -> UndoResponse:
        return desk.undo(name, body.key)

    @router.get("/progress")
    def progress(name: annotator, kind: Kind | None = None) -> ProgressCounts:
        return desk.progress(name, kind or desk.kinds[0])

    @router.get("/rubric")
    def rubric(name: annotator) -> Rubrics:
        return desk.rubrics()

    @router.put("/rubric")
    def set_rubric(body: RubricText, name: annotator) -> RubricVersion:
        return desk.set_rubric(name, body.text)

    @router.get("/statistics")
    def all_statistics(name: annotator) -> Statistics:
        """All statistics, by the names of the sources; refused if annotators are invited."""
        if desk.invited:
            raise Forbidden("statistics name the sources: whoever invites reads them in the store.")
        return statistics(desk.store)

    return router


def _unauthorized(why: str) -> HTTPException:
    return HTTPException(401, why, {"WWW-Authenticate": "Bearer"})


def _refused(_: Request, error: Exception) -> JSONResponse:
    status = 403 if isinstance(error, Forbidden) else 409 if isinstance(error, Conflict) else 422
    return JSONResponse({"detail": str(error)}, status)


def _malformed(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    message = first["msg"].removeprefix("Value error, ")
    return JSONResponse({"detail": f"{place}: {message[0].lower()}{message[1:]}."}, 422)
