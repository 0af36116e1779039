"""The page in a real browser: keys and clicks, undo, reloads, a killed server, a phone."""

import signal
from collections.abc import Callable

import pytest
from annotating import SECRETS, Server
from browsing import CHROMIUM, CONTRASTS, NO_CHROMIUM, OVERFLOW
from visiting import SETTLED, Visitor, kept, placed

from foundling.preferences.records import Answer, Pair
from foundling.text.chat import Message

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=NO_CHROMIUM)


@pytest.mark.slow
def test_votes_by_key(start_server: Callable[..., Server], visit: Callable[..., Visitor]) -> None:
    server = start_server(8, "--annotators", "ann")
    ann = visit(server.links["ann"])
    ann.key()
    ann.page.keyboard.press("e")
    for key in ("1", "ArrowRight", "t", "b", "s"):
        ann.press(key)
    ann.settle()
    said = kept(server)
    assert [placed(j) for j in said] == ["left", "right", "tie", "both_bad", "skip"]
    assert [j.strength for j in said] == [3, None, None, None, None]
    assert all(j.milliseconds is not None and j.milliseconds >= 300 for j in said)
    content = ann.page.content()
    assert not [secret for secret in SECRETS if secret in content]


@pytest.mark.slow
def test_clicks_repeats_and_undo(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(8, "--annotators", "ann")
    ann = visit(server.links["ann"])
    first = ann.key()
    button = ann.page.get_by_role("button", name="First is better")
    button.dblclick()
    second = ann.after(first)
    ann.page.keyboard.down("2")
    for _ in range(10):
        ann.page.keyboard.down("2")  # repeats, as of a key that is held
    ann.page.keyboard.up("2")
    third = ann.after(second)
    ann.settle()
    assert [placed(j) for j in kept(server)] == ["left", "right"]

    prompt = ann.page.locator(".turn").last.inner_text()
    ann.page.get_by_label("Reason").fill("because")
    ann.page.get_by_role("button", name="Tie").click()
    ann.after(third)
    ann.page.keyboard.press("u")
    ann.page.wait_for_function("document.querySelector('#reason').value === 'because'")
    assert ann.page.locator(".turn").last.inner_text() == prompt
    ann.press("2")
    ann.settle()
    assert [placed(j) for j in kept(server)] == ["left", "right", "right"]
    assert kept(server)[-1].reason == "because"


@pytest.mark.slow
def test_typing_does_not_vote(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(8, "--annotators", "ann")
    ann = visit(server.links["ann"])
    first = ann.key()
    ann.page.keyboard.press("r")
    ann.page.keyboard.type("12 tbs u?\nqwe")
    assert ann.page.get_by_label("Reason").input_value() == "12 tbs u?\nqwe"
    ann.page.reload()
    assert ann.key() == first
    assert ann.page.get_by_label("Reason").input_value() == "12 tbs u?\nqwe"
    ann.page.keyboard.press("Control+1")
    assert ann.key() == first
    ann.page.get_by_label("Reason").focus()
    ann.page.keyboard.press("Escape")
    ann.press("1")
    ann.settle()
    assert [(placed(j), j.strength, j.reason) for j in kept(server)] == [
        ("left", None, "12 tbs u?\nqwe")
    ]
    # Who needs the keys for something else turns them off.
    second = ann.key()
    ann.page.keyboard.press("?")
    ann.page.get_by_label("Vote by keys").uncheck()
    ann.page.keyboard.press("Escape")
    ann.page.keyboard.press("1")
    assert ann.key() == second


@pytest.mark.slow
def test_two_annotators_at_once(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(6)
    ann, bob = visit(server.base), visit(server.base)
    for visitor, name in ((ann, "ann"), (bob, "bob")):
        visitor.page.get_by_label("Your name").fill(name)
        visitor.page.get_by_role("button", name="Begin").click()
        visitor.key()
    for visitor in (ann, bob, ann, bob, ann):
        visitor.page.keyboard.press("1")
        visitor.page.wait_for_timeout(SETTLED)
    ann.page.keyboard.press("2")
    bob.page.keyboard.press("2")
    for visitor in (ann, bob):
        visitor.page.wait_for_selector('.desk[data-state="done"]')
        visitor.settle()
    assert sorted(j.pair_id for j in kept(server)) == [1, 2, 3, 4, 5, 6]
    assert {j.annotator for j in kept(server)} == {"ann", "bob"}

    # A name that is known is asked about; going on as it ends the earlier page.
    again = visit(server.base)
    again.page.get_by_label("Your name").fill("ann")
    again.page.get_by_role("button", name="Begin").click()
    again.page.get_by_role("button", name="Go on as ann").click()
    again.page.wait_for_selector('.desk[data-state="done"]')
    ann.page.wait_for_selector('.desk[data-state="ended"]')
    assert "newer link" in ann.page.locator(".state").inner_text()


@pytest.mark.slow
def test_only_those_with_a_link_come_in(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(2, "--annotators", "ann", fixed=("--invited",))
    stranger = visit(server.base)
    stranger.page.get_by_role("heading", name="This page is by invitation").wait_for()
    assert stranger.page.get_by_role("textbox").count() == 0
    stranger.page.goto(f"{server.base}/compare?token=guessed")
    stranger.page.get_by_role("heading", name="This link does not work").wait_for()
    assert stranger.page.locator("html").get_attribute("lang") == "en-US"
    ann = visit(server.links["ann"].replace("/compare?", "/?"))
    ann.press("1")


@pytest.mark.slow
def test_a_killed_server_loses_nothing(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(10, "--annotators", "ann")
    ann = visit(server.links["ann"])
    ann.press("1")
    ann.settle()
    server.stop(signal.SIGKILL)
    ann.press("2")  # what was fetched ahead is judged on; the votes wait in the browser
    last = ann.press("t")
    ann.page.get_by_text("The server is away").wait_for()
    ann.page.get_by_label("Reason").fill("half a sentence")
    assert len(kept(server)) == 1
    server.start("--annotators", "ann")  # the same command: her link goes on
    ann.settle()
    ann.page.get_by_text("The server is away").wait_for(state="detached")
    assert ann.key() == last
    assert ann.page.get_by_label("Reason").input_value() == "half a sentence"
    ann.page.get_by_label("Reason").press("Escape")
    ann.press("b")
    ann.settle()
    assert [placed(j) for j in kept(server)] == ["left", "right", "tie", "both_bad"]


@pytest.mark.slow
def test_ratings_by_key_and_click(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(2, "--annotators", "ann", fixed=("--kind", "both"))
    ann = visit(server.links["ann"])
    ann.press("1")
    ann.page.keyboard.press("1")
    ann.page.get_by_role("button", name="Now rate them").click()
    first = ann.key()
    ann.page.keyboard.press("Enter")  # not yet
    ann.page.keyboard.press("3")
    ann.page.keyboard.press("6")
    ann.page.keyboard.press("Enter")
    ann.after(first)
    first_answer, second_answer = (
        ann.page.get_by_role("group", name=f"How good is the {n}") for n in ("first", "second")
    )
    first_answer.get_by_label("2 of 7").check()
    second_answer.get_by_label("7 of 7").check()
    ann.page.get_by_role("button", name="Save ratings").click()
    ann.page.get_by_text("That was all. Thank you, ann.").wait_for()
    ann.settle()
    rated = [j for j in kept(server) if j.kind == "rating"]
    assert [j.ratings if j.left == "A" else j.ratings[::-1] for j in rated if j.ratings] == [
        (3, 6), (2, 7),
    ]  # fmt: skip


@pytest.mark.slow
def test_the_rubric_is_edited_into_a_new_version(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = start_server(4, "--annotators", "ann")
    ann = visit(server.links["ann"])
    ann.key()
    for text in ("Be true.", "Be true and brief."):
        ann.page.get_by_role("button", name="Write one" if text == "Be true." else "Edit").click()
        ann.page.get_by_label("What makes an answer better").fill(text)
        ann.page.get_by_role("button", name="Save as a new version").click()
        ann.page.get_by_role("paragraph").filter(has_text=text).wait_for()
    ann.page.get_by_text("Earlier versions (1)").click()
    ann.page.get_by_text("Version 1").wait_for()
    ann.press("1")
    ann.settle()
    assert [j.rubric_version for j in kept(server)] == [2]


@pytest.mark.slow
def test_answers_hold_no_markup_and_fit_a_phone(
    start_server: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    evil = "<img src=x onerror='window.evil = 1'><b>bold</b> {{ 1 + 1 }} </script>`${1}"
    wide = "w" * 400
    server = start_server(1, "--annotators", "ann")
    with server.store() as store:
        prompt = (Message("user", evil), Message("assistant", wide), Message("user", "?"))
        store.add_pair(Pair(prompt, Answer(evil, "x"), Answer(wide, "y")))
    ann = visit(server.links["ann"], viewport={"width": 390, "height": 844}, has_touch=True)
    shown = []
    for _ in range(2):
        ann.key()
        shown += ann.page.locator(".text").all_inner_texts()
        assert ann.page.evaluate(OVERFLOW) == 0
        first, second = (
            ann.page.locator(f"[data-side={side}]").bounding_box() for side in ("left", "right")
        )
        assert first["x"] == second["x"]
        assert first["y"] + first["height"] <= second["y"]
        ann.page.get_by_role("button", name="Second").tap()
    ann.page.wait_for_selector('.desk[data-state="done"]')
    assert shown.count(evil) == 2
    assert shown.count(wide) == 2
    assert ann.page.evaluate("window.evil === undefined && !document.querySelector('.text b')")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(
    start_server: Callable[..., Server], visit: Callable[..., Visitor], scheme: str
) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for text."""
    server = start_server(3, "--annotators", "ann", fixed=("--kind", "both"))
    ann = visit(server.links["ann"], color_scheme=scheme)
    ann.key()
    ann.page.keyboard.press("q")
    found = ann.page.evaluate(CONTRASTS)
    assert len(found) > 20
    assert {text: ratio for text, ratio in found if ratio < 4.5} == {}
    names = ann.page.get_by_role("button").evaluate_all(
        "all => all.map(one => one.innerText.trim())"
    )
    assert all(names)
