"""The pages: static files, which fetch all that they show over the HTTP interface."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

ASSETS = Path(__file__).with_name("assets")
# A second wall behind the sanitiser: nothing is loaded from elsewhere, no inline script runs. Vue
# compiles the page's template, which needs 'unsafe-eval'.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the URL holds the token
    "X-Content-Type-Options": "nosniff",
    # Revalidated at each load: a page of an earlier version would not fit the interface.
    "Cache-Control": "no-cache",
}


class _Assets(StaticFiles):
    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(HEADERS)
        return response


def add_pages(app: FastAPI, *, invited: bool) -> None:
    """Add the start page (which asks for a name unless `invited`) and the comparison page."""

    @app.get("/assets/vue.js", include_in_schema=False)
    def vue() -> Response:
        return FileResponse(_vue(), headers=HEADERS)

    app.mount("/assets", _Assets(directory=ASSETS))

    @app.get("/", include_in_schema=False)
    def join(token: str = "") -> Response:
        if token:
            return RedirectResponse(f"/compare?{urlencode({'token': token})}")
        return _page("invited" if invited else "join")

    @app.get("/compare", include_in_schema=False)
    def compare() -> Response:
        return _page("compare")


def _vue() -> Path:
    """Vue's build for browsers, which nicegui ships; nicegui itself is not imported."""
    found = find_spec("nicegui")
    assert found is not None, "a dependency"
    assert found.origin is not None
    return Path(found.origin).with_name("static") / "vue.esm-browser.prod.js"


def _page(name: str) -> Response:
    return FileResponse(ASSETS / f"{name}.html", headers=HEADERS)
