"""An annotator's page in a real browser, and what the server keeps of it."""

from annotating import Server
from browsing import Window

from foundling.preferences.records import Judgement

SETTLED = 400  # milliseconds after which the page takes a vote on an item


class Visitor(Window):
    """One annotator's page."""

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


def kept(server: Server) -> list[Judgement]:
    with server.store() as store:
        return store.judgements()


def placed(judgement: Judgement) -> str | None:
    """The verdict as a place."""
    if judgement.verdict in ("A", "B"):
        return "left" if judgement.verdict == judgement.left else "right"
    return judgement.verdict
