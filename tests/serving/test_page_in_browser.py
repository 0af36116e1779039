"""The chat page in a real browser: one model and two, keys and clicks, errors, a phone."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from browsing import CHROMIUM, CONTRASTS, NO_CHROMIUM, OVERFLOW
from live import running
from talking import Talker
from tiny_models import save_endless

from foundling.data.reading import read_conversations, read_pairs
from foundling.preferences.store import PreferenceStore
from foundling.stages.pretrain import PretrainConfig, pretrain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=NO_CHROMIUM),
]
EVIL = (
    "<img src=x onerror='window.evil = 1'><b>bold</b> [link](javascript:window.evil=1) "
    "![](https://elsewhere.example/x.png)\n\n```html\n<script>window.evil = 1</script>\n```\n"
)
"""Elsewhere is asked for nothing: `Talker.close` looks."""


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., PretrainConfig]
) -> dict[str, Path]:
    """Two models that answer and one that continues texts."""
    top = tmp_path_factory.mktemp("chat")
    settings = ("context=512", "training.steps=1", "validation.every=1")
    return {
        "one": save_endless(top / "one", seed=6),
        "two": save_endless(top / "two", seed=7),
        "base": pretrain(tiny(*settings), top / "base").folder,
    }


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("votes") / "votes.db"


@pytest.fixture(scope="module")
def base(folders: dict[str, Path], votes: Path) -> Iterator[str]:
    """The address of a server of all three."""
    with running(list(folders.values()), votes=str(votes)) as live:
        yield live.base


@pytest.fixture
def talk(browser: Any, base: str) -> Iterator[Callable[..., Talker]]:
    talkers: list[Talker] = []

    def open_page(link: str = base, **context: Any) -> Talker:
        talkers.append(Talker(browser, link, **context))
        return talkers[-1]

    yield open_page
    for talker in talkers:
        talker.close()


def num_running(base: str) -> float:
    """Requests that the engines work on."""
    lines = httpx2.get(f"{base}/metrics").text.splitlines()
    found = [line for line in lines if line.startswith('foundling_engine{figure="running"')]
    assert found
    return sum(float(line.split()[-1]) for line in found)


def test_a_conversation_by_keys(talk: Callable[..., Talker], tmp_path: Path) -> None:
    ann = talk()
    field = ann.page.get_by_role("textbox", name="Message")
    assert field.evaluate("field => field === document.activeElement")
    ann.set({"System prompt": "Be brief.", "Most tokens": "24"})
    field.focus()
    ann.page.keyboard.type("two")
    ann.page.keyboard.press("Shift+Enter")
    ann.page.keyboard.type("lines")
    ann.page.keyboard.press("Enter")
    ann.settle()
    ann.ask("again")
    assert ann.rounds()[0]["prompt"] == "two\nlines"
    answer = ann.answer()
    assert answer["usage"]["completion_tokens"] == len(answer["tokens"]) == 24
    assert answer["finish"] == "length"
    used = f"Context: {answer['usage']['total_tokens']} of 2,048 tokens"
    assert ann.page.get_by_text(used).is_visible()
    assert ann.page.get_by_text("24 tokens, ").count() == 2

    # All of it is there after a reload, and a row for sft.
    before = ann.rounds()
    ann.page.reload()
    ann.settle()
    assert ann.page.locator(".answer").count() == 2
    assert ann.rounds() == before
    [row], _ = read_conversations([ann.export("Conversation", tmp_path)])
    assert [(message.role, message.content) for message in row.messages] == [
        ("system", "Be brief."),
        ("user", "two\nlines"),
        ("assistant", ann.answer(0)["text"]),
        ("user", "again"),
        ("assistant", ann.answer(1)["text"]),
    ]

    # A new conversation, and the earlier one brought back.
    ann.button("New").click()
    assert ann.page.locator(".answer").count() == 0
    ann.button("Bring back the earlier one").click()
    assert ann.page.locator(".answer").count() == 2


def test_probabilities_of_each_token(talk: Callable[..., Talker], base: str) -> None:
    ann = talk()
    ann.ask("say on", max_tokens=12)
    answer = ann.answer()
    asked = {"model": "one", "messages": [{"role": "user", "content": "say on"}], "max_tokens": 12}
    same = httpx2.post(
        f"{base}/v1/chat/completions",
        json={**asked, "seed": answer["seed"], "logprobs": True, "top_logprobs": 5},
    ).json()["choices"][0]
    assert answer["text"] == same["message"]["content"]
    content = same["logprobs"]["content"]
    assert [token[2] for token in answer["tokens"]] == [one["logprob"] for one in content]

    ann.button("Probabilities").click()
    tokens = ann.page.locator(".token")
    assert "".join(tokens.all_text_contents()) == answer["text"]
    ann.page.locator(".tinted .text").focus()
    card = ann.page.get_by_role("tooltip")
    for one in content[:3]:
        ann.page.keyboard.press("ArrowRight")
        share = 100 * math.exp(one["logprob"])
        assert float(card.locator(".own span").inner_text().strip("<% ")) == pytest.approx(
            share, abs=0.06
        )
        own = one["token"] in [other["token"] for other in one["top_logprobs"]]
        assert card.locator(".option").count() == (5 if own else 6)
    ann.page.keyboard.press("Escape")
    assert card.is_hidden()
    tokens.filter(has_text=re.compile("[a-z]")).first.hover()
    assert card.is_visible()


def test_regenerating_and_editing_redo_what_comes_later(
    talk: Callable[..., Talker], tmp_path: Path
) -> None:
    ann = talk()
    ann.ask("first", max_tokens=10)
    ann.ask("second")
    last = ann.page.locator(".round").last
    last.get_by_role("button", name="Regenerate").click()
    ann.settle()
    assert last.get_by_text("2/2").is_visible()
    earlier, later = ann.rounds()[1]["sides"][0]["answers"]
    assert earlier["seed"] != later["seed"]
    last.get_by_role("button", name="Earlier answer").click()
    assert ann.answer()["text"] == earlier["text"]
    pairs, _ = read_pairs([ann.export("Preferences", tmp_path)])
    assert [(pair.chosen[-1].content, pair.rejected[-1].content) for pair in pairs] == [
        (earlier["text"], later["text"])
    ]
    assert [m.content for m in pairs[0].prompt] == ["first", ann.answer(0)["text"], "second"]

    # An edited answer is preferred to what the model wrote; what came after it is redone.
    written = ann.answer(0)["text"]
    ann.page.locator(".answer").first.get_by_role("button", name="Edit").click()
    assert ann.page.get_by_text("1 later turn will be redone.").is_visible()
    ann.page.get_by_label("New text").fill("I say so.")
    ann.button("Save and redo").click()
    ann.settle()
    assert ann.answer(0)["text"] == "I say so."
    assert len(ann.rounds()[1]["sides"][0]["answers"]) == 1
    pairs, _ = read_pairs([ann.export("Preferences", tmp_path)])
    assert [(pair.chosen[-1].content, pair.rejected[-1].content) for pair in pairs] == [
        ("I say so.", written)
    ]

    # An edited question has one new answer.
    ann.page.locator(".asked").first.get_by_role("button", name="Edit").click()
    ann.page.get_by_label("New text").fill("other")
    ann.button("Save and redo").click()
    ann.settle()
    assert [one["prompt"] for one in ann.rounds()] == ["other", "second"]
    assert [len(one["sides"][0]["answers"]) for one in ann.rounds()] == [1, 1]


def test_a_blind_vote_between_two(talk: Callable[..., Talker], votes: Path, tmp_path: Path) -> None:
    ann = talk()
    ann.choose("one", "two")
    ann.page.get_by_label("Blind").check()
    ann.set({"Your name": "ann", "Most tokens": "10"})
    for verdict in ("Second is better", "Tie", "Both bad"):
        ann.ask(f"what of {verdict}")
        last = ann.page.locator(".round").last
        assert last.locator("h2").all_inner_texts() == ["First answer", "Second answer"]
        assert "tokens," not in last.inner_text()
        last.get_by_role("button", name=verdict).click()
        last.get_by_text("Your vote is in the database.").wait_for()
        assert sorted(last.locator("h2").all_inner_texts()) == ["one", "two"]
    with PreferenceStore.open(votes) as store:
        judged = [one for one in store.judgements() if one.annotator == "ann"]
        pairs = store.pairs()
    assert [one.left for one in judged] == ["A"] * 3
    assert [one.verdict for one in judged] == ["B", "tie", "both_bad"]
    for judgement, found in zip(judged, ann.rounds(), strict=True):
        pair = pairs[judgement.pair_id]
        for answer, side in zip((pair.a, pair.b), found["sides"], strict=True):
            assert (answer.source, answer.text) == (side["model"], side["answers"][0]["text"])
        assert pair.prompt[-1].content == found["prompt"]
        assert pair.sampling["max_tokens"] == 10
    # Both sides go on with the answer that won.
    won = ann.answer(0, side=1)["text"]
    assert [m.content for m in pairs[judged[1].pair_id].prompt][:2] == [
        "what of Second is better",
        won,
    ]
    [pair], _ = read_pairs([ann.export("Preferences", tmp_path)])
    assert (pair.chosen[-1].content, pair.rejected[-1].content) == (won, ann.answer(0)["text"])


def test_a_base_model_continues_the_text(talk: Callable[..., Talker], base: str) -> None:
    ann = talk()
    ann.choose("base")
    assert ann.page.get_by_text("base will not answer but continue the text").is_visible()
    ann.ask("The miller", max_tokens=12)
    ann.ask("The baker")
    first, second = ann.answer(0), ann.answer(1)
    body = {
        "model": "base",
        "prompt": f"The miller\n\n{first['text']}\n\nThe baker",
        "max_tokens": 12,
        "seed": second["seed"],
    }
    same = httpx2.post(f"{base}/v1/completions", json=body).json()
    assert second["text"] == same["choices"][0]["text"]
    assert second["usage"]["prompt_tokens"] == same["usage"]["prompt_tokens"]
    assert ann.page.get_by_role("heading", name="base · continues the text").count() == 2
    ann.button("Probabilities").click()
    tokens = ann.page.locator(".answer").last.locator(".token")
    assert tokens.count() >= 12
    tokens.filter(has_text=re.compile(r"\w")).first.hover()
    assert ann.page.get_by_role("tooltip").is_visible()


def test_stop_ends_the_work_of_the_server(talk: Callable[..., Talker], base: str) -> None:
    ann = talk()
    for how in ("Escape", "button"):
        ann.send("go on for long")
        written = ann.page.locator(".round:last-child .answer .text")
        written.filter(has_text=re.compile(r"\S")).wait_for()
        if how == "Escape":
            ann.page.keyboard.press("Escape")
        else:
            ann.button("Stop").click()
        ann.settle()
        assert ann.answer()["finish"] == "stopped"
        assert ann.answer()["text"]
        assert ann.page.locator(".round").last.get_by_text("stopped by you").is_visible()
        for _ in range(100):
            if num_running(base) == 0:
                break
            ann.page.wait_for_timeout(50)
        assert num_running(base) == 0


def test_errors_are_said_in_words(
    talk: Callable[..., Talker], folders: dict[str, Path], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        base = stack.enter_context(running([folders["one"]])).base
        ann = talk(base)
        ann.ask("w" * 9000)
        alert = ann.page.locator(".answer").last.get_by_role("alert")
        assert "tokens" in alert.inner_text()
        assert "2048" in alert.inner_text().replace(",", "")
        ann.ask("short", max_tokens=8)  # the one that failed is left out
        assert ann.answer()["text"]
        [row], _ = read_conversations([ann.export("Conversation", tmp_path)])
        assert [message.content for message in row.messages] == ["short", ann.answer()["text"]]
        port = int(base.rpartition(":")[2])
        stack.close()
        ann.ask("anybody there?")
        assert "cannot be reached" in ann.page.locator(".answer").last.inner_text()
        with running([folders["one"]], port=port):
            ann.page.locator(".answer").last.get_by_role("button", name="Regenerate").click()
            ann.settle()
            assert ann.answer()["text"]
            assert len(ann.rounds()[-1]["sides"][0]["answers"]) == 1


def test_a_key_is_asked_for_and_kept_until_the_tab_is_closed(
    browser: Any, folders: dict[str, Path]
) -> None:
    with running([folders["one"]], keys=["secret"]) as live:
        ann = Talker(browser, live.base)
        ann.page.get_by_label("API key").fill("wrong")
        ann.page.keyboard.press("Enter")
        ann.page.get_by_text("The server asks for an API key.").wait_for()
        ann.page.get_by_label("API key").fill("secret")
        ann.button("Done").click()
        ann.settle()
        ann.ask("hello", max_tokens=6)
        assert ann.answer()["text"]
        ann.page.reload()
        ann.settle()
        assert "secret" not in ann.page.evaluate("JSON.stringify(localStorage)")
        ann.close()


def test_nothing_that_is_written_is_executed(talk: Callable[..., Talker]) -> None:
    ann = talk()
    ann.ask(EVIL, max_tokens=4)
    ann.page.locator(".answer").get_by_role("button", name="Edit").click()
    ann.page.get_by_label("New text").fill(EVIL)
    ann.button("Save and redo").click()
    ann.page.locator(".answer pre").wait_for()
    for _ in range(2):
        assert ann.page.evaluate("window.evil === undefined")
        assert ann.page.locator(".text :is(img, b, script, a[href^=javascript])").count() == 0
        ann.page.reload()
        ann.page.locator(".answer pre").wait_for()
    ann.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ann.page.locator(".code").get_by_role("button", name="Copy").click()
    ann.button("Copied").wait_for()
    copied = ann.page.evaluate("navigator.clipboard.readText()")
    assert copied == "<script>window.evil = 1</script>\n"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_words_stand_out(talk: Callable[..., Talker], scheme: str) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for text."""
    ann = talk(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=scheme)
    ann.choose("one", "two")
    ann.ask("w" * 300, max_tokens=24)
    ann.page.locator(".answer").first.get_by_role("button", name="Edit").tap()
    ann.page.get_by_label("New text").fill("v" * 300 + "\n\n```\n" + "x" * 300 + "\n```\n")
    ann.button("Save and redo").tap()
    ann.page.locator(".answer pre").wait_for()
    assert ann.page.evaluate(OVERFLOW) == 0
    boxes = [ann.page.locator(f"[data-side='{n}']").bounding_box() for n in (0, 1)]
    assert boxes[0]["x"] == boxes[1]["x"]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]

    tokens = ann.page.locator("[data-side='1'] .token")
    tokens.filter(has_text=re.compile("[a-z]")).first.tap()
    card = ann.page.get_by_role("tooltip")
    assert card.is_visible()
    box = card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    found = ann.page.evaluate(CONTRASTS)
    assert len(found) > 15
    assert {text: ratio for text, ratio in found if ratio < 4.5} == {}
    ann.button("Settings").tap()
    assert ann.page.evaluate(OVERFLOW) == 0
    for kind in ("textbox", "spinbutton", "button", "combobox", "checkbox"):
        for name in ann.page.get_by_role(kind).all():
            assert name.evaluate(
                "one => (one.labels?.[0] ?? one).innerText.trim() || one.ariaLabel || one.title"
            )
