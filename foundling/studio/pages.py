"""The pages: who are you, and which answer is better."""

from pathlib import Path
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from nicegui import app as pages_app
from nicegui import run, ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import GenericEventArguments

from foundling.base.config import ConfigError
from foundling.studio.desk import Desk

ASSETS = Path(__file__).with_name("assets")
SHEETS = ("look", "desk", "verdict", "narrow")
TITLE = "Foundling · Which answer is better?"
_NAME_OF_FORM = '(event) => emit(new FormData(event.target).get("name"))'


class Comparison(Element, component="assets/compare.js"):
    """The desk of one annotator in the browser: a client of the HTTP interface like any other."""

    def __init__(self, *, token: str, name: str, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self._props.update(token=token, name=name, kinds=list(kinds))


def add_pages(app: FastAPI, desk: Desk) -> None:
    """Add the pages of this desk to the app; there is one such desk in a process."""
    # Loaded again at each start: a page of yesterday's version would not fit today's interface.
    pages_app.add_static_files("/assets", ASSETS, max_cache_age=0)

    @ui.page("/")
    async def join(token: str = "") -> RedirectResponse | None:
        if token:
            return RedirectResponse(f"/compare?{urlencode({'token': token})}")
        _frame()
        if desk.invited:
            _card(
                "This page is by invitation",
                "Open the link that you were given; it knows your name.",
            )
        else:
            _join_form(desk)
        return None

    @ui.page("/compare")
    async def compare(token: str = "") -> None:
        name = await run.io_bound(desk.store.annotator_of, token) if token else None
        _frame()
        if name is None:
            with _card(
                "This link does not work",
                "Its token is unknown, or a newer link for the same name has replaced it.",
            ):
                TextElement(tag="a", text="Start over").props('href="/" class="button primary"')
        else:
            Comparison(token=token, name=name, kinds=desk.kinds)

    # Answers have their own dark colours; Quasar's are not used.
    ui.run_with(
        app, title=TITLE, favicon=ASSETS / "icon.svg", language="en-US", dark=None, tailwind=False,
        show_welcome_message=False,
    )  # fmt: skip


def _frame() -> None:
    sheets = "".join(f'<link rel="stylesheet" href="/assets/{name}.css">' for name in SHEETS)
    # The address holds the token.
    ui.add_head_html(sheets + '<meta name="referrer" content="no-referrer">')


def _card(title: str, text: str) -> Element:
    with ui.element("main").classes("card"):
        TextElement(tag="p", text="Foundling").classes("mark")
        TextElement(tag="h1", text=title)
        TextElement(tag="p", text=text)
        return ui.element("div").classes("card-body")


def _join_form(desk: Desk) -> None:
    """Ask for a name; a known one is asked about, as its earlier link will end."""
    with (
        _card(
            "Which answer is better?",
            "You will see two answers to the same question and say which is better. "
            "Who wrote them stays hidden.",
        ) as body,
        ui.element("form") as form,
    ):
        TextElement(tag="label", text="Your name").props('for="name"')
        ui.element("input").props(
            'id="name" name="name" required maxlength="100" autocomplete="nickname" autofocus '
            'aria-describedby="join-status"'
        )
        TextElement(tag="button", text="Begin").props('type="submit"').classes("button primary")
    with body:
        status = TextElement(tag="p", text="").props('id="join-status" role="status"')
        known = ui.element("div").classes("choices")
    known.set_visibility(False)

    async def enter(name: str) -> None:
        try:
            token = await run.io_bound(desk.join, name)
        except ConfigError as error:
            status.set_text(str(error))
        else:
            ui.navigate.to(f"/compare?{urlencode({'token': token})}")

    async def begin(event: GenericEventArguments) -> None:
        name = str(event.args).strip()
        if not await run.io_bound(desk.is_known, name):
            await enter(name)
            return
        status.set_text(f"{name} has been here before. Is it you? An earlier link will end.")
        known.clear()
        with known:
            again = TextElement(tag="button", text=f"Go on as {name}").props('type="button"')
            again.classes("button primary").on("click", lambda: enter(name), args=[])
            TextElement(tag="a", text="Take another name").props('href="/"').classes("button")
        known.set_visibility(True)

    form.on("submit.prevent", begin, js_handler=_NAME_OF_FORM)
