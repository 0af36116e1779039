"""Pages in a real browser, and what is asked of all of them."""

from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
NO_CHROMIUM = f"no {CHROMIUM} (Debian: apt install chromium)"
# Pixels by which the page is wider than its window.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Window:
    """A page; what it loads from elsewhere or fails at is remembered."""

    def __init__(self, browser: Any, link: str, of: "Window | None" = None, **context: Any) -> None:
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
        if not request.url.startswith((self.host, "ws", "data:", "blob:")):
            self.foreign.append(request.url)

    def close(self) -> None:
        self.page.context.close()
        assert self.errors == []
        assert self.foreign == []


# The text of each element and its contrast with what is behind it.
CONTRASTS = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    const light = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
  };
  const found = [];
  const own = (element) => [...element.childNodes].filter((node) => node.nodeType === 3);
  for (const element of document.querySelectorAll(".desk *, .card *, .chat *")) {
    const text = own(element).map((node) => node.data).join("").trim();
    if (!text || element.closest(".unseen, .said, dialog")) continue;
    if (!element.checkVisibility({ opacityProperty: true })) continue;
    const grounds = [];
    for (let one = element; one; one = one.parentElement) {
      grounds.unshift(getComputedStyle(one).backgroundColor);
    }
    const [ground, ink] = [paint(...grounds), paint(...grounds, getComputedStyle(element).color)];
    found.push([text, (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05)]);
  }
  return found;
}"""
