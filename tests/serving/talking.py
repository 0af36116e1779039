"""A person at the chat page in a real browser."""

import json
from pathlib import Path
from typing import Any

from browsing import Window

READY = 'body[data-state="ready"]'


class Talker(Window):
    """One person's page."""

    def __init__(self, browser: Any, link: str, **context: Any) -> None:
        super().__init__(browser, link, **context)

    def set(self, values: dict[str, str]) -> None:
        """Change settings by their labels."""
        self.button("Settings").click()
        for label, value in values.items():
            self.page.get_by_label(label).fill(value)
        self.button("Done").click()

    def choose(self, first: str, second: str = "") -> None:
        self.page.get_by_label("Model", exact=True).select_option(first)
        self.page.get_by_label("Second model").select_option(second)

    def send(self, text: str) -> None:
        self.page.get_by_role("textbox", name="Message").fill(text)
        self.page.keyboard.press("Enter")

    def ask(self, text: str, *, max_tokens: int = 0) -> None:
        """Send, and wait until it is answered."""
        if max_tokens:
            self.set({"Most tokens": str(max_tokens), "Seed": "3"})
        self.send(text)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is being written."""
        self.page.wait_for_selector(READY)

    def button(self, name: str, **where: Any) -> Any:
        return self.page.get_by_role("button", name=name, **where)

    def rounds(self) -> list[dict[str, Any]]:
        """What the browser keeps of the conversation."""
        return json.loads(self.page.evaluate("localStorage.getItem('foundling/chat')"))["rounds"]

    def answer(self, number: int = -1, side: int = 0) -> dict[str, Any]:
        """The answer that is shown."""
        found = self.rounds()[number]["sides"][side]
        return found["answers"][found["shown"]]

    def export(self, name: str, folder: Path) -> Path:
        self.button("Export").click()
        with self.page.expect_download() as download:
            self.page.get_by_role("menuitem", name=name).click()
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path
