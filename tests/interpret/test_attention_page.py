"""The attention page: what it holds, what it refuses, and in a browser the numbers it shows."""

import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.cli import app, exit_code
from foundling.evaluation.likelihood import likelihoods
from foundling.hamlet import World, winograd_pairs
from foundling.interpret.antecedents import coreference
from foundling.interpret.blocks import SCALE, pack
from foundling.interpret.coreferences import read_coreferences, village_coreferences
from foundling.interpret.evidence import continuations
from foundling.interpret.page import AttentionPage, attention_page
from foundling.interpret.text_pairs import aligned, joined, same_words, second
from foundling.interpret.weights import attention_weights, summarise
from foundling.interpret.words import read
from foundling.models import interchange
from foundling.models.language_model import LanguageModel
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer

CHROMIUM = Path("/usr/bin/chromium")
TEXT = "The dog did not cross the lane because it was too tired."
TWIN = "The dog did not cross the lane because it was too wide."
NAMED = ("the dog", "the lane")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bytes([TEXT, TWIN] * 3, vocab_size=300)


def build(tokenizer: Tokenizer, context: int = 96, **settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    given = {"dim": 16, "num_layers": 2, "num_heads": 2, **settings}
    if given.get("rung") == "attention":
        del given["num_layers"]
    model = models.build(given, vocab_size=tokenizer.vocab_size, context=context)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(9)
    return model.eval()


def blocks_of(html: str) -> dict[str, bytes]:
    found = re.findall(r'<script type="text/plain" id="block-([\d-]+)">(.*?)</script>', html)
    return {name: zlib.decompress(base64.b64decode(data)) for name, data in found}


def told(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="told">(.*?)</script>', html)
    assert found
    result: dict[str, Any] = json.loads(found[1])
    return result


@pytest.fixture(scope="module")
def compared(tokenizer: Tokenizer) -> AttentionPage:
    examples = [coreference(pair) for pair in winograd_pairs(World(), 1)[:8]]
    model = build(tokenizer, context=200)
    return attention_page(
        model, tokenizer, TEXT, compare="... too wide.", antecedents=NAMED, examples=examples
    )


@pytest.mark.parametrize("rung", ["transformer", "attention"])
def test_each_layer_is_a_block_of_its_own_with_the_models_weights(
    tokenizer: Tokenizer, rung: str
) -> None:
    model = build(tokenizer, rung=rung)
    page = attention_page(model, tokenizer, TEXT, examples=())
    reading = read(TEXT, tokenizer)
    weights = reading.by_word(attention_weights(model, reading.tokens))
    blocks = blocks_of(page.html)
    assert list(blocks) == [f"0-{layer}" for layer in range(len(weights))]
    count = len(reading.words)
    rows, columns = np.tril_indices(count)
    for layer, data in enumerate(blocks.values()):
        kept = np.frombuffer(data, "<u2").reshape(2, -1) / SCALE
        np.testing.assert_allclose(kept, weights[layer][:, rows, columns], atol=0.5001 / SCALE)
    assert page.facts["recomputation_error"] < 1e-5
    assert page.facts["words"] == [count]


def test_packing_by_hand() -> None:
    packed = pack(torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]))
    assert np.frombuffer(packed, "<u2").tolist() == [65535, 32768, 32768]


def test_only_words_behind_the_difference_can_know(
    tokenizer: Tokenizer, compared: AttentionPage
) -> None:
    """The page's claim, and that it is true: rows up to there are the same in both texts."""
    first, other = read(TEXT, tokenizer), read(TWIN, tokenizer)
    known = same_words(first, other)
    assert first.words[known].text == "tired"
    assert compared.facts["same_words"] == known
    model = build(tokenizer, context=200)
    ours, theirs = (one.by_word(attention_weights(model, one.tokens)) for one in (first, other))
    same = ours[:, :, :known, :known] - theirs[:, :, :known, :known]
    assert float(same.abs().max()) < 1e-6
    assert [one["row"] for one in told(compared.html)["sentences"]] == [known, known]
    assert "are identical in both texts" in compared.html
    assert "because of this causal mask" in compared.html


def test_a_suffix_is_read_behind_the_texts_and_looked_at_first(tokenizer: Tokenizer) -> None:
    page = attention_page(
        build(tokenizer), tokenizer, TEXT, compare=TWIN, suffix="it was", examples=()
    )
    for one in told(page.html)["sentences"]:
        assert one["words"][one["row"]] == "was"
        assert one["row"] == len(one["words"]) - 1
    assert joined("One. ", "Two?") == "One. Two?"


def test_evidence_and_ranking_stand_on_the_page(compared: AttentionPage) -> None:
    assert compared.facts["continuations"] == (" The dog", " The lane")
    assert len(compared.facts["log_odds"]) == 2
    for value in compared.facts["log_odds"]:
        assert f"{value:+.2f} nats" in compared.html
    (ranking,) = compared.facts["rankings"]
    best = ranking["best"]
    assert f'data-choose="{best["layer"]},{best["head"]}"' in compared.html
    assert f"{ranking['chance']:+.3f}" in compared.html
    spans = told(compared.html)["sentences"][0]["antecedents"]
    assert spans == [[1, 2], [6, 7]]


def test_the_page_is_whole_and_lets_no_other_script_run(compared: AttentionPage) -> None:
    assert not re.search(r'(?:src|href)="(?!data:)', compared.html)
    assert "default-src &#39;none&#39;" in compared.html or "default-src 'none'" in compared.html
    assert "script-src 'sha256-" in compared.html
    frame = compared._repr_html_()
    assert frame.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert frame.count(chr(34)) == 8  # nothing of the page ends srcdoc


def test_layers_of_a_long_text_stand_beside_the_page(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(tokenizer)
    short = attention_page(model, tokenizer, TEXT, examples=(), by_token=True)
    assert not short.layers
    assert len(told(short.html)["sentences"][0]["words"]) == len(read(TEXT, tokenizer).tokens)
    monkeypatch.setattr("foundling.interpret.page.INLINE", 100)
    long = attention_page(model, tokenizer, TEXT, examples=(), by_token=True)
    path = long.save(tmp_path / "a page.html")
    folder = tmp_path / "a page_layers"
    assert sorted(one.name for one in folder.iterdir()) == ["0-0.js", "0-1.js"]
    assert not blocks_of(path.read_text(encoding="utf-8"))
    kept = blocks_of(short.html)
    for name, data in kept.items():
        script = (folder / f"{name}.js").read_text()
        found = re.fullmatch(rf'layerRead\("{name}", "(.*)"\)\n', script)
        assert found is not None
        assert zlib.decompress(base64.b64decode(found[1])) == data
    assert "<iframe" not in long._repr_html_()


def test_a_text_cannot_leave_its_place(tokenizer: Tokenizer) -> None:
    text = "</script><b>it"
    page = attention_page(build(tokenizer), tokenizer, text, examples=())
    assert "<b>it" not in page.html
    assert told(page.html)["sentences"][0]["text"] == text


def test_words_of_two_texts_find_each_other(tokenizer: Tokenizer) -> None:
    first = read("The dog was tired.", tokenizer)
    longer = read("The dog was not tired.", tokenizer)
    assert aligned(first, read("The lane was wide.", tokenizer)) == [(n, n) for n in range(6)]
    assert aligned(first, longer) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 5), (5, 6)]
    assert same_words(first, longer) == 4
    assert second(TEXT, "... too wide.") == TWIN
    assert second(TEXT, "… too wide.") == second(TEXT, TWIN) == TWIN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It was tired.", (" The dog", " The lane")),
        ("It was tired. It refers to the", (" dog", " lane")),
        ("It was tired. It is ", ("the dog", "the lane")),
    ],
)
def test_antecedents_go_on_the_text(text: str, expected: tuple[str, str]) -> None:
    assert continuations(text, NAMED) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": " "}, "text is empty"),
        ({"text": TEXT * 9}, "at most 96"),
        ({"compare": TEXT}, "both texts are the same"),
        ({"compare": "... so wide"}, '"so" is not in it'),
        ({"antecedents": ("the dog", "the cat")}, '"the cat" does not stand in'),
        ({"antecedents": ("the dog", "The dog")}, "both are"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    tokenizer: Tokenizer, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        attention_page(build(tokenizer), tokenizer, **{"text": TEXT, "examples": (), **given})


def test_a_rung_without_attention_is_refused(tokenizer: Tokenizer) -> None:
    model = models.build({"rung": "next_word", "dim": 8}, vocab_size=300, context=24)
    with pytest.raises(ConfigError, match="no attention to look at"):
        attention_page(model, tokenizer, TEXT)


def test_a_users_own_examples(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    row = {"text": TEXT, "decides": "tired", "right": "the dog", "wrong": "the lane", "group": "a"}
    file.write_text(json.dumps(row) + "\n\n")
    (found,) = read_coreferences(file)
    spans = (found.decides, found.right, found.wrong)
    assert [TEXT[slice(*span)] for span in spans] == ["tired", "The dog", "the lane"]
    for change, message in (
        ({"right": "the cat"}, ':2: right = "the cat" does not stand'),
        ({"decides": "not"}, ":2: decides.*behind right and wrong"),
        ({"group": 3}, ":2: group = 3: expected a text"),
        ({"more": ""}, ":2: more: no such field"),
        ({"wrong": "the dog"}, ":2: right and wrong are both"),
    ):
        file.write_text(json.dumps(row) + "\n" + json.dumps({**row, **change}) + "\n")
        with pytest.raises(ConfigError, match=message):
            read_coreferences(file)
    file.write_text("{]")
    with pytest.raises(ConfigError, match=":1: not a JSON object"):
        read_coreferences(file)
    file.write_text("")
    with pytest.raises(ConfigError, match="the file is empty"):
        read_coreferences(file)


def test_village_examples_come_in_twins() -> None:
    plain, asked = village_coreferences(), village_coreferences(asked=True)
    assert len(plain) == len(asked) > 100
    assert all(example.text.endswith("?") for example in asked)


def test_the_verb_writes_the_page(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_dir, out, mine = tmp_path / "model", tmp_path / "page.html", tmp_path / "mine.jsonl"
    model_dir.mkdir()
    interchange.save(build(tokenizer), model_dir)
    tokenizer.save(model_dir)
    rows = [
        {"text": text, "decides": word, "right": right, "wrong": wrong, "group": str(group)}
        for group in range(2)
        for text, word, right, wrong in ((TEXT, "tired", *NAMED), (TWIN, "wide", *NAMED[::-1]))
    ]
    mine.write_text("\n".join(map(json.dumps, rows)))
    options = [
        "attention", str(model_dir), "--text", TEXT, "--compare", "... too wide.", "--json",
        "--antecedents", "the dog, the lane", "--winograd", str(mine), "--out", str(out),
    ]  # fmt: skip
    assert exit_code(lambda: app(options)) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["page"] == str(out)
    assert facts["recomputation_error"] < 1e-5
    assert facts["rankings"][0]["num_examples"] == 4
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    options[options.index("--antecedents") + 1] = "the dog"
    assert exit_code(lambda: app(options)) == 2
    assert "two names" in capsys.readouterr().err
    spoken = ["attention", str(model_dir), "--text", TEXT, "--out", str(out)]
    assert exit_code(lambda: app([*spoken, "--template", "foundling"])) == 2
    assert "is of no use without --chat" in capsys.readouterr().err
    file = tmp_path / "asked.jinja"
    file.write_text("Asked: {{ messages[0].content }} Answered:")
    assert exit_code(lambda: app([*spoken, "--chat", "--template", str(file)])) == 0
    assert "Asked:" in out.read_text(encoding="utf-8")


def test_in_a_chat_the_evidence_is_of_how_the_answer_begins(tokenizer: Tokenizer) -> None:
    model = build(tokenizer)
    page = attention_page(model, tokenizer, TEXT, antecedents=NAMED, examples=(), chat=True)
    prompt = render_prompt((Message("user", TEXT),), tokenizer)
    one, other = likelihoods(
        model, [(prompt, tokenizer.encode(t)) for t in ("The dog", "The lane")]
    )
    assert page.facts["continuations"] == ("The dog", "The lane")
    assert page.facts["log_odds"] == [pytest.approx(one.nats - other.nats, abs=1e-5)]
    assert "&lt;|assistant|&gt;" in page.html
    with pytest.raises(ConfigError, match="does not stand in"):
        attention_page(model, tokenizer, TEXT, antecedents=("the cow", "the lane"), chat=True)


# ---------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM} (Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
def test_the_browser_shows_what_python_computes(
    browser: Any, compared: AttentionPage, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    file = compared.save(tmp_path / "page.html")
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready=yes]")

    def choose(name: str, value: str) -> None:
        page.check(f"input[name={name}][value='{value}']", force=True)

    def exported(kind: str) -> bytes:
        page.wait_for_timeout(300)
        with page.expect_download() as download:
            page.click(f"#{kind}")
        return Path(download.value.path()).read_bytes()

    model, kept = build(tokenizer, context=200), []
    for text in (TEXT, TWIN):
        reading = read(text, tokenizer)
        weights = reading.by_word(attention_weights(model, reading.tokens))
        kept.append((weights.double() * SCALE).round() / SCALE)

    page.select_option("#layer", "1")
    for sink in (True, False):
        page.set_checked("#sink", not sink, force=True)
        tables = [
            {how: summarise(one, how, sink=sink)[1] for how in ("mean", "max", "rollout")}
            | {"head": summarise(one[:, 1:2], "mean", sink=sink)[1]}
            for one in kept
        ]
        page.click("#heads button[data-head='1']")
        for how in ("head", "mean", "max", "rollout"):
            choose("mode", how)
            for which, wanted in (
                ("0", tables[0][how]),
                ("1", tables[1][how]),
                ("difference", tables[0][how] - tables[1][how]),
            ):
                choose("which", which)
                found = json.loads(exported("json"))
                assert (found["mode"], found["which"], found["sink"]) == (how, which, sink)
                np.testing.assert_allclose(found["weights"], wanted.numpy(), atol=1e-6)

    page.set_checked("#sink", False, force=True)
    choose("which", "0")
    page.click("#strip button:has-text('cross')")
    assert page.locator("#looks").text_content() == "“cross” attends to"
    assert "identical in both" in page.locator("#told-row").text_content()
    page.keyboard.press("ArrowRight")
    assert page.locator("#strip [aria-pressed=true]").text_content() == "the"
    svg = exported("svg").decode()
    assert svg.startswith("<svg")
    assert svg.count("<path") > 10
    choose("picture", "heat")
    assert exported("png").startswith(b"\x89PNG")
    assert exported("svg").count(b"<rect") > 100
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == 390

    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><title>A notebook</title>{compared._repr_html_()}")
    page.goto(notebook.as_uri())
    page.frame_locator("iframe").locator("body[data-ready=yes]").wait_for()
    assert faults == []
    assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in requests)


@pytest.mark.slow
def test_the_browser_loads_one_layer_of_a_long_text(
    browser: Any, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundling.interpret.page.INLINE", 100)
    text = " ".join([TEXT] * 6)
    made = attention_page(build(tokenizer, context=400), tokenizer, text, examples=())
    page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url.rpartition("/")[2]))
    page.goto(made.save(tmp_path / "long page.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
    assert requests == ["long%20page.html", "0-1.js"]
    page.select_option("#layer", "0")
    page.locator("#shown", has_text="Layer 0").wait_for(timeout=60_000)
    assert requests[2:] == ["0-0.js"]
