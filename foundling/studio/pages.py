"""The pages: static files, which fetch all that they show over the HTTP interface."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from foundling.web.pages import Pages

ASSETS = Path(__file__).with_name("assets")


def add_pages(app: FastAPI, *, invited: bool) -> None:
    """Add the start page (which asks for a name unless `invited`) and the comparison page."""
    pages = Pages(ASSETS, evaluating=True)

    @app.get("/assets/vue.js", include_in_schema=False)
    def vue() -> Response:
        return pages.file(_vue())

    pages.add(app)

    @app.get("/", include_in_schema=False)
    def join(token: str = "") -> Response:
        if token:
            return RedirectResponse(f"/compare?{urlencode({'token': token})}")
        return pages.page("invited" if invited else "join")

    @app.get("/compare", include_in_schema=False)
    def compare() -> Response:
        return pages.page("compare")


def _vue() -> Path:
    """Vue's build for browsers, which nicegui ships; nicegui itself is not imported."""
    found = find_spec("nicegui")
    assert found is not None, "a dependency"
    assert found.origin is not None
    return Path(found.origin).with_name("static") / "vue.esm-browser.prod.js"
