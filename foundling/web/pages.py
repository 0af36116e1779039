"""Pages as static files, and the look that all of them share."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

LOOK = Path(__file__).with_name("look")


class Pages:
    """The pages of a folder, which load nothing from elsewhere and run no inline script.

    Args:
        assets: holds the pages as `NAME.html` and what they load, at /assets; what all pages
            share is at /assets/look.
        evaluating: whether scripts may compile templates, as Vue does.
    """

    def __init__(self, assets: Path, *, evaluating: bool = False) -> None:
        self._assets = assets
        scripts = "'self' 'unsafe-eval'" if evaluating else "'self'"
        self.headers = {
            # A second wall behind the sanitiser of Markdown.
            "Content-Security-Policy": (
                f"default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self'; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Referrer-Policy": "no-referrer",  # a URL may hold a token
            "X-Content-Type-Options": "nosniff",
            # Revalidated at each load: a page of an earlier version would not fit the interface.
            "Cache-Control": "no-cache",
        }

    def add(self, app: FastAPI) -> None:
        """Serve the files; the pages themselves are served by whoever knows their addresses."""
        for path, folder in (("/assets/look", LOOK), ("/assets", self._assets)):
            app.mount(path, _Files(folder, self.headers))

    def page(self, name: str) -> Response:
        return self.file(self._assets / f"{name}.html")

    def file(self, path: Path) -> Response:
        return FileResponse(path, headers=self.headers)


class _Files(StaticFiles):
    def __init__(self, folder: Path, headers: dict[str, str]) -> None:
        super().__init__(directory=folder)
        self._headers = headers

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(self._headers)
        return response
