"""`foundling data crawl` over a small web that the test writes: what stays, what goes and why."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datatrove", reason='pip install "foundling[web]"')

from web_pages import Warc, articles, edited, page

from foundling.data.store import TokenStore

GERMAN = (
    "Der alte Müller ging am frühen Morgen in den Wald und suchte nach seinem Hund. Niemand "
    "wusste, wohin das Tier in der Nacht gelaufen war. Am Abend kam er müde nach Hause zurück.\n\n"
    "Seine Tochter hatte inzwischen das Feuer gemacht und wartete auf ihn. Sie stellte Brot und "
    "Suppe auf den Tisch und sagte nichts. Draußen begann es zu regnen, und der Wind wurde stärker."
)
QUESTION = "Which of the seven grey lanterns did the ferryman hang above the northern door at dusk"
ANSWER = "the one that his grandmother had brought from the coast"


def foundling(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foundling", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@dataclass
class Crawled:
    out: Path
    report: dict[str, Any]
    documents: dict[str, dict[str, Any]]  # by the last part of their address
    said: str

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.report["steps"] if step["name"] == name)

    def reasons(self, name: str) -> dict[str, list[str]]:
        """The addresses that a step removed, by reason; all are among the examples."""
        return {
            reason["reason"]: [name_of(example["where"]) for example in reason["examples"]]
            for reason in self.step(name)["reasons"]
        }


def name_of(address: str) -> str:
    return address.rsplit("/", 1)[-1]


def written(out: Path) -> Iterator[dict[str, Any]]:
    for file in sorted((out / "documents").glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Crawled:
    folder = tmp_path_factory.mktemp("web")
    texts = articles(folder, 14)
    web = folder / "pages"
    web.mkdir()
    warc = Warc()
    for number, text in enumerate(texts[:8]):
        warc.add(f"http://a.example/good-{number}", page(text))
    warc.add("http://a.example/same-0", page(texts[0]))
    warc.add("http://a.example/near-1", page(edited(texts[1], 90)))
    warc.add("http://a.example/menu", page("Home. Shop. Contact."))
    warc.add("http://a.example/german", page(GERMAN))
    warc.add(
        "http://a.example/spam", page("\n\n".join(["Buy the best boots in our shop now."] * 40))
    )
    warc.add("http://a.example/lorem", page(texts[8] + "\n\nLorem ipsum dolor sit amet, they say."))
    warc.add(
        "http://a.example/personal",
        page(
            texts[9] + "\n\nThey wrote to clara.smith@village.org and called +1 650-253-0000 from "
            "8.8.8.8 and from 2001:4860:4860::8888, and at home from 192.168.0.1 as well."
        ),
    )
    warc.add("http://a.example/leak", page(f"{texts[10]}\n\nQ: {QUESTION.upper()}? A: {ANSWER}!"))
    warc.add(
        "http://a.example/latin",
        page(texts[11] + "\n\nThe café was called Été by all.").encode("latin-1"),
        "text/html; charset=ISO-8859-1",
    )
    warc.add("http://a.example/form.pdf", b"%PDF-1.4 ...", "application/pdf")
    warc.add("http://a.example/gone", page("It is gone."), status="404 Not Found")
    warc.add_text("http://a.example/wet", texts[12])
    (web / "a.warc.gz").write_bytes(warc.raw)
    cut = Warc()
    cut.add("http://b.example/whole", page(texts[13]))
    before = len(cut.raw)
    cut.add("http://b.example/cut", page(texts[0] + texts[5]))
    (web / "b.warc.gz").write_bytes(cut.raw[: before + (len(cut.raw) - before) // 2])
    (web / "c.warc").write_text("This is no WARC file.")
    (web / "d.html").write_bytes(b"\x81\xfe\xff<p>" + bytes(range(128, 256)) * 4)
    (web / "notes.txt").write_text("No page.")
    items = folder / "items.jsonl"
    row = {"query": QUESTION, "choices": ["none of them", ANSWER], "gold": 1}
    items.write_text(
        json.dumps({"query": "Too short", "choices": ["a", "b"]}) + "\n" + json.dumps(row)
    )
    out = folder / "out"
    done = foundling(
        "data", "crawl", web, "--out", out, "--set", "store.vocab_size=400",
        "--set", "run.workers=1", "--set", "run.tasks=2", "--set", "report.examples=20",
        "--set", f'contamination.files=["{items}"]', "--set", "store.validation_fraction=0.2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    documents = {name_of(row["metadata"]["url"]): row for row in written(out)}
    report = json.loads((out / "report.json").read_text())
    return Crawled(out, report, documents, done.stderr)


def test_good_pages_stay_whatever_their_encoding(crawled: Crawled) -> None:
    kept = {
        name
        for name in crawled.documents
        if not name.startswith(("good-0", "good-1", "same-", "near-"))
    }
    assert kept == {*(f"good-{n}" for n in range(2, 8)), "personal", "latin", "wet", "whole"}
    assert "The café was called Été by all." in crawled.documents["latin"]["text"]


def test_of_duplicates_and_near_duplicates_one_stays(crawled: Crawled) -> None:
    for pair in ({"good-0", "same-0"}, {"good-1", "near-1"}):
        assert len(pair & crawled.documents.keys()) == 1
    step = crawled.step("near_duplicates")
    assert step["removed"] == 2
    sides = [{name_of(pair[side]["where"]) for side in pair} for pair in step["pairs"]]
    assert sorted(map(sorted, sides)) == [["good-0", "same-0"], ["good-1", "near-1"]]


def test_the_menu_around_a_page_is_no_text_of_it(crawled: Crawled) -> None:
    assert not any("rights reserved" in row["text"] for row in crawled.documents.values())
    assert not any("Contact" in row["text"] for row in crawled.documents.values())


def test_a_document_says_where_and_when_it_is_from(crawled: Crawled) -> None:
    about = crawled.documents["good-2"]["metadata"]
    assert about["url"] == "http://a.example/good-2"
    assert about["date"] == "2026-01-02T03:04:05Z"
    assert about["language"] == "en"
    assert about["language_score"] > 0.65


def test_each_filter_says_what_it_removed_and_shows_it(crawled: Crawled) -> None:
    assert crawled.reasons("language")["is de"] == ["german"]
    assert crawled.reasons("c4") == {"lorem_ipsum": ["lorem"]}
    assert ["spam"] in crawled.reasons("gopher_repetition").values()
    assert ["menu"] in [
        gone
        for name in ("extraction", "language", "gopher_quality")
        for gone in crawled.reasons(name).values()
    ]
    page = (crawled.out / "report.html").read_text()
    assert "What each step removed" in page
    assert "http://a.example/german" in page


def test_what_cannot_be_read_is_counted_and_named(crawled: Crawled) -> None:
    assert crawled.report["pages"] == 19
    assert crawled.report["not_pages"] == {
        "not HTML": 1,
        "record of another type": 2,
        "status other than 200": 1,
    }
    faults = {name_of(fault).split(": ")[0]: fault for fault in crawled.report["faults"]}
    assert faults["b.warc.gz"].endswith("cut short")
    assert faults["c.warc"].endswith("not a WARC file")
    assert "b.warc.gz" in crawled.said
    assert crawled.report["ignored"] == {".txt": 1}
    assert "1 files ignored (.txt)" in crawled.said
    assert ".txt: 1" in (crawled.out / "report.html").read_text()


def test_personal_data_is_masked_and_counted(crawled: Crawled) -> None:
    text = crawled.documents["personal"]["text"]
    for secret in ("clara.smith", "253-0000", "8.8.8.8", "4860"):
        assert secret not in text
    assert "192.168.0.1" in text  # of a home, not of the internet
    assert crawled.report["personal_data"] == {"emails": 1, "ip_addresses": 2, "phone_numbers": 1}
    assert crawled.report["documents_masked"] == 1


def test_a_page_with_an_evaluation_item_goes_and_the_item_is_named(crawled: Crawled) -> None:
    step = crawled.step("contamination")
    assert step["removed"] == 1
    match = step["matches"][0]
    assert name_of(match["where"]) == "leak"
    assert match["item"].endswith("items.jsonl:2")
    assert match["passage"].startswith("which of the seven grey lanterns")
    assert "1 of them too short" in crawled.said


def test_the_store_holds_the_documents(crawled: Crawled) -> None:
    store = TokenStore.open(crawled.out / "store")
    held = sum(store.split(name).num_documents for name in ("train", "validation"))
    assert held == len(crawled.documents) == crawled.report["documents"]
    store.verify()
