"""An annotator's page in a real browser, and what the server keeps of it."""

from pathlib import Path
from typing import Any

from annotating import Server

from foundling.preferences.records import Judgement

CHROMIUM = Path("/usr/bin/chromium")
NO_CHROMIUM = f"no {CHROMIUM} (Debian: apt install chromium)"
SETTLED = 400  # milliseconds after which the page takes a vote on an item


class Visitor:
    """One annotator's page; what it loads from elsewhere or fails at is remembered."""

    def __init__(
        self, browser: Any, link: str, of: "Visitor | None" = None, **context: Any
    ) -> None:
        window = browser.new_context(**context) if of is None else of.page.context
        self.page = window.new_page()
        self.page.set_default_timeout(60_000)
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)
        self.host = "/".join(link.split("/")[:3])
        self.page.goto(link)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.host, "ws", "data:")):
            self.foreign.append(request.url)

    def key(self) -> str:
        """Of the item, once it is there to be voted on."""
        self.page.wait_for_selector('.desk[data-state="item"]')
        self.page.wait_for_timeout(SETTLED)
        return self.page.locator(".desk").get_attribute("data-key")

    def after(self, key: str) -> str:
        """The key of the item that comes after this one."""
        self.page.wait_for_function(
            "key => ![null, key].includes(document.querySelector('.desk').dataset.key ?? null)",
            arg=key,
        )
        return self.key()

    def press(self, keys: str) -> str:
        before = self.key()
        self.page.keyboard.press(keys)
        return self.after(before)

    def settle(self) -> None:
        """Wait until every vote is acknowledged."""
        self.page.wait_for_function(
            "!Object.keys(localStorage).some(key => key.startsWith('foundling/vote'))"
        )

    def close(self) -> None:
        self.page.context.close()
        assert self.errors == []
        assert self.foreign == []


def kept(server: Server) -> list[Judgement]:
    with server.store() as store:
        return store.judgements()


def placed(judgement: Judgement) -> str | None:
    """The verdict as a place."""
    if judgement.verdict in ("A", "B"):
        return "left" if judgement.verdict == judgement.left else "right"
    return judgement.verdict
