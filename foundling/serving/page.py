"""The chat page: static files, and the little that they ask beside the public interface."""

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import Response
from pydantic import BaseModel, Field

from foundling.preferences.store import PreferenceStore
from foundling.serving.bodies import Body
from foundling.serving.marks import render_marked
from foundling.serving.votes import VoteRequest, VoteResponse, keep_vote
from foundling.web.pages import Pages

ASSETS = Path(__file__).with_name("assets")


class PageModel(BaseModel):
    id: str
    chat: bool = Field(description="Whether it answers; else it continues texts.")
    context: int | None = Field(description="Tokens of prompt and answer together; None: any.")


class ServerInfo(BaseModel):
    models: list[PageModel]
    votes: bool = Field(description="Whether votes are kept in a preferences database.")


class Text(Body):
    text: str


class Html(BaseModel):
    html: str


def add_page(app: FastAPI) -> None:
    """Serve the page at `/`; what it asks beside the interface is `page_router`."""
    pages = Pages(ASSETS)
    pages.add(app)

    @app.get("/", include_in_schema=False)
    def chat() -> Response:
        return pages.page("chat")


def page_router(models: Callable[[], list[PageModel]], votes: PreferenceStore | None) -> APIRouter:
    """What the page asks beside the interface: the models, Markdown rendered safely, votes."""
    # Plain functions, not coroutines: FastAPI runs each call in a thread, where it may block.
    router = APIRouter(prefix="/page", include_in_schema=False)

    @router.get("/server")
    def server() -> ServerInfo:
        return ServerInfo(models=models(), votes=votes is not None)

    @router.post("/markdown")
    def markdown(body: Text) -> Html:
        """Sanitised HTML; marks of tokens are kept where they change nothing."""
        return Html(html=render_marked(body.text))

    @router.post("/votes")
    def vote(body: VoteRequest) -> VoteResponse:
        """Once this returns, the vote is on the disk; a retry returns the same."""
        if votes is None:
            raise HTTPException(404, "this server keeps no votes; start it with --votes FILE.")
        return keep_vote(votes, body)

    return router
