"""The page while a person types and the network fails, the server dies or another takes its port;
in two windows; with texts that are long, formatted or written from right to left."""

from collections.abc import Callable
from pathlib import Path

import pytest
from annotating import Server, pair_of
from browsing import CHROMIUM, NO_CHROMIUM
from visiting import Visitor, kept, placed

from foundling.preferences.records import Answer, Pair
from foundling.text.chat import Message

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=NO_CHROMIUM),
]
WRITTEN = "half a sentence, 12 tb su"  # each letter of it is a vote or an undo elsewhere
VOTES = "Object.keys(localStorage).filter(key => key.startsWith('foundling/vote'))"


def waiting(visitor: Visitor) -> list[dict]:
    """The votes that the browser holds."""
    return visitor.page.evaluate(f"{VOTES}.map(key => JSON.parse(localStorage[key]))")


def pair(prompt: str, first: str, second: str) -> Pair:
    return Pair((Message("user", prompt),), Answer(first, "old"), Answer(second, "new"))


class Writing:
    """Somebody who writes a reason, whatever happens, and a page that must never load anew."""

    def __init__(self, visitor: Visitor) -> None:
        self.page, self.text = visitor.page, ""
        self.page.evaluate("window.loaded = 'once'")
        self.page.keyboard.press("r")

    def type(self, text: str = WRITTEN) -> None:
        self.page.keyboard.type(text)
        self.text += text
        self.check()

    def check(self) -> None:
        field = self.page.get_by_label("Reason")
        assert field.input_value() == self.text
        assert field.evaluate("field => field === document.activeElement")
        assert self.page.evaluate("window.loaded") == "once"


def test_nothing_is_lost_while_a_person_types(
    start_server: Callable[..., Server], visit: Callable[..., Visitor], tmp_path: Path
) -> None:
    server = start_server(8, "--annotators", "ann")
    ann = visit(server.links["ann"])
    ann.key()
    writing = Writing(ann)
    writing.type()

    # The network is away for a while.
    ann.page.context.set_offline(True)
    writing.type()
    ann.page.wait_for_timeout(3000)
    writing.type()
    ann.page.context.set_offline(False)
    writing.type()

    # The server is killed, and started again.
    server.stop()
    writing.type()
    ann.page.wait_for_timeout(3000)
    server.start("--annotators", "ann")
    writing.type()
    ann.page.wait_for_timeout(1500)
    writing.check()
    assert kept(server) == []

    # A vote while the server is away, and another database at its address.
    server.stop()
    first = ann.key()
    ann.page.keyboard.press("Escape")
    ann.page.keyboard.press("1")
    ann.after(first)
    ann.page.get_by_text("The server is away").wait_for()
    reason = writing.text
    writing.text = ""
    ann.page.keyboard.press("r")
    writing.type()
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = Server(other_folder, server.options, server.port)
    with other.store() as store:
        store.add_pairs(pair_of(n) for n in range(100, 103))
    try:
        other.start()
        writing.type()
        ann.page.wait_for_selector('.desk[data-state="ended"]')
        writing.type()
        assert [entry["body"]["reason"] for entry in waiting(ann)] == [reason]

        # The same person joins there under the same name: the vote is neither sent nor dropped.
        there = visit(other.base, of=ann)
        there.page.get_by_label("Your name").fill("ann")
        there.page.get_by_role("button", name="Begin").click()
        there.page.get_by_text("1 vote kept in this browser for another collection").wait_for()
        there.press("2")
        there.page.get_by_text("1 judged").wait_for()
        there.page.wait_for_function(f"{VOTES}.length === 1")
        there.page.close()
        assert [(placed(j), j.reason) for j in kept(other)] == [("right", "")]
        assert [entry["body"]["reason"] for entry in waiting(ann)] == [reason]
        ann.page.bring_to_front()
        writing.check()
    finally:
        other.stop()

    # The first database comes back: the page goes on by itself, and the vote arrives.
    server.start("--annotators", "ann")
    ann.settle()
    ann.page.wait_for_selector('.desk[data-state="item"]')
    writing.type()
    assert [(placed(j), j.reason) for j in kept(server)] == [("left", reason)]


def test_keys_are_off_after_writing_until_the_person_acts(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(4, "--annotators", "ann")
    ann = visit(server.links["ann"])
    first = ann.key()
    ann.page.keyboard.press("r")
    ann.page.keyboard.type(WRITTEN)
    ann.page.reload()
    assert ann.key() == first
    ann.page.keyboard.type("2")  # goes on where it was written
    assert ann.page.get_by_label("Reason").input_value() == WRITTEN + "2"
    ann.page.evaluate("document.activeElement.blur()")  # as where a field goes away by itself
    ann.page.keyboard.type("2t")
    assert ann.key() == first
    ann.page.get_by_text("Keys are off").wait_for()
    ann.page.keyboard.press("Escape")
    ann.press("2")
    ann.settle()
    assert [(placed(j), j.reason) for j in kept(server)] == [("right", WRITTEN + "2")]


def test_two_windows_keep_in_step(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(5, "--annotators", "ann")
    ann = visit(server.links["ann"])
    first = ann.key()
    other = visit(server.links["ann"], of=ann)
    assert other.key() == first
    ann.press("1")
    second = other.after(first)
    assert ann.key() == second
    other.press("2")
    third = ann.after(second)
    assert other.key() == third

    # What is written about a pair stays, though it was judged in the other window.
    other.page.keyboard.press("r")
    other.page.keyboard.type("because")
    ann.press("t")
    ann.settle()
    other.page.get_by_text("You have judged this pair in another window").wait_for()
    assert other.page.get_by_label("Reason").input_value() == "because"
    other.page.keyboard.press("Escape")
    other.press("1")
    refused = other.page.get_by_role("alert", name="Votes that were not kept")
    refused.get_by_text("because").wait_for()
    assert third not in refused.inner_text()
    assert [placed(j) for j in kept(server)] == ["left", "right", "tie"]
    refused.get_by_role("button", name="Send again").click()
    refused.get_by_text("because").wait_for()
    refused.get_by_role("button", name="Discard").click()
    refused.wait_for(state="detached")
    other.press("b")
    other.settle()
    assert [placed(j) for j in kept(server)] == ["left", "right", "tie", "both_bad"]


def test_an_undo_of_another_windows_vote_gives_back_no_reason_of_this_one(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(5, "--annotators", "ann")
    ann = visit(server.links["ann"])
    first = ann.key()
    other = visit(server.links["ann"], of=ann)
    assert other.key() == first
    questions = []
    for number, visitor in enumerate((ann, other)):
        key = visitor.after(first) if number else first
        questions.append(visitor.page.locator(".turn").last.inner_text().splitlines()[-1])
        visitor.page.get_by_label("Reason").fill(f"said of {number}")
        visitor.page.get_by_role("button", name="Tie").click()
        visitor.after(key)
        visitor.settle()
    for number in (1, 0):  # the last vote is undone first, whichever window it came from
        ann.page.bring_to_front()
        ann.key()
        ann.page.keyboard.press("u")
        ann.page.locator(".turn").get_by_text(questions[number], exact=True).wait_for()
        reason = ann.page.get_by_label("Reason").input_value()
        assert reason == ("" if number else "said of 0")


def test_space_scrolls_after_a_vote_by_click(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    pairs = [pair(f"{n}?", "word\n\n" * 60, "another") for n in range(3)]
    server = start_server(0, "--annotators", "ann", pairs=pairs)
    ann = visit(server.links["ann"])
    first = ann.key()
    ann.page.get_by_role("button", name="First is better").click()
    second = ann.after(first)
    ann.page.keyboard.press("Space")
    ann.page.wait_for_function("window.scrollY > 100")
    assert ann.key() == second
    ann.settle()
    assert len(kept(server)) == 1


MARKDOWN = """**bold** and `code` and $a_1 * b_1$

```
x = 1
```
![remote](http://elsewhere.example/x.png) <script>window.evil = 1</script>
"""
ARABIC = "مرحبا! هذا جواب **قصير**.\n\nAnd in English.\n\n- أولا"


def test_markdown_and_right_to_left(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    pairs = [pair("ما هي عاصمة مصر؟", MARKDOWN, ARABIC)]
    server = start_server(0, "--annotators", "ann", pairs=pairs)
    ann = visit(server.links["ann"])
    ann.key()
    page = ann.page
    found = page.evaluate(
        """() => ({
          face: getComputedStyle(document.querySelector(".answer code")).fontFamily,
          directions: [".turn .text", ".answer :is(p, li):has(+ *, strong)"].map(
            (which) => [...document.querySelectorAll(which)].map(
              (one) => getComputedStyle(one.closest(".text")).direction)),
          images: document.querySelectorAll(".text :is(img, script)").length,
          evil: window.evil ?? null,
        })"""
    )
    assert "monospace" in found["face"]
    assert found["directions"][0] == ["rtl"]
    assert {"ltr", "rtl"} == set(found["directions"][1])
    assert (found["images"], found["evil"]) == (0, None)
    edges = page.evaluate(
        """() => [...document.querySelectorAll(".answer .text")]
          .find((one) => one.innerText.includes("English"))
          .querySelectorAll("p").values().map((one) => {
            const range = document.createRange();
            range.selectNodeContents(one);
            const [text, box] = [range.getBoundingClientRect(), one.getBoundingClientRect()];
            return text.left - box.left > box.right - text.right ? "right" : "left";
          }).toArray()"""
    )
    assert edges == ["right", "left"]
    page.keyboard.press("m")
    page.get_by_text("$a_1 * b_1$").wait_for()
    assert MARKDOWN.strip() in page.locator(".answers").inner_text()
    assert page.locator(".answers code").count() == 0


@pytest.mark.parametrize("kind", ["comparison", "rating"])
@pytest.mark.parametrize("size", [(360, 640), (1280, 800)])
def test_long_answers_fold_and_the_verdict_stays_in_reach(
    start_server: Callable[..., Server],
    visit: Callable[..., Visitor],
    kind: str,
    size: tuple[int, int],
) -> None:
    pairs = [pair("Why?", "word " * 30_000, "word\n\n" * 2000)]
    server = start_server(0, "--annotators", "ann", "--kind", kind, pairs=pairs)
    viewport = {"width": size[0], "height": size[1]}
    ann = visit(server.links["ann"], viewport=viewport, has_touch=size[0] < 700)
    ann.key()
    page = ann.page
    height = "document.documentElement.scrollHeight"
    assert page.evaluate(height) < 4.5 * size[1]

    def in_reach() -> bool:
        return page.evaluate(
            """() => [...document.querySelectorAll(".verdicts button, .scale label")].every(
              (one) => {
                const box = one.getBoundingClientRect();
                return box.top >= 0 && box.bottom <= innerHeight + 0.5 && box.right <= innerWidth;
              })"""
        )

    assert in_reach()
    page.get_by_role("button", name="Show all of it").first.click()
    assert page.evaluate(height) > 10 * size[1]
    page.evaluate("window.scrollTo(0, 5 * innerHeight)")
    assert in_reach()
    less = page.get_by_role("button", name="Show less").bounding_box()
    assert 0 < less["y"] < size[1]
    page.get_by_role("button", name="Show less").click()
    assert page.evaluate(height) < 4.5 * size[1]
    assert page.get_by_role("main").count() == 1
    if size[0] < 700:
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, a, summary, textarea, fieldset label")]
              .filter((one) => one.checkVisibility() && !one.closest("dialog"))
              .map((one) => [one.innerText || one.id, one.getBoundingClientRect()])
              .filter(([, box]) => box.height < 43.5 || box.width < 43.5)
              .map(([name, box]) => [name, box.width, box.height])"""
        )
        assert small == []
