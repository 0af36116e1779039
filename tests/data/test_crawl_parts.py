"""The parts of the crawl that are ours: encodings, masks, items, settings."""

import gzip
import json
import random
import re
import string
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("datatrove", reason='pip install "foundling[web]"')

import fsspec
import zstandard
from datatrove.data import Document
from web_pages import Warc, page

from foundling.base.config import ConfigError
from foundling.data.crawl import record
from foundling.data.crawl.checks import check
from foundling.data.crawl.contamination import Contamination, Index, items
from foundling.data.crawl.crawl import crawl
from foundling.data.crawl.decoding import decoded
from foundling.data.crawl.inputs import found
from foundling.data.crawl.pages import Pages
from foundling.data.crawl.personal_data import Masker
from foundling.data.crawl.quality import addresses
from foundling.data.crawl.removed import Removed, examples
from foundling.data.crawl.settings import (
    ContaminationSection,
    CrawlConfig,
    PersonalDataSection,
    ReadingSection,
    UrlSection,
)
from foundling.text.tokenizer import Tokenizer

UMLAUTS = "Die Bäume trugen süße Äpfel, und die Kinder pflückten sie alle an einem Tag."


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (UMLAUTS.encode(), None),
        (UMLAUTS.encode(), "text/html; charset=no-such-thing"),
        (UMLAUTS.encode("latin-1"), "text/html; charset=ISO-8859-1"),
        (UMLAUTS.encode("latin-1"), 'text/html; charset="windows-1252"'),
        (UMLAUTS.encode("utf-16"), None),
        (b"\xef\xbb\xbf" + UMLAUTS.encode(), "text/html; charset=iso-8859-1"),
        (UMLAUTS.encode("cp1252"), None),
    ],
)
def test_a_page_is_read_in_the_encoding_that_it_has(raw: bytes, content_type: str | None) -> None:
    assert decoded(raw, content_type) == UMLAUTS


def test_a_meta_element_names_the_encoding() -> None:
    page = f'<html><head><meta charset="shift_jis"></head><body>{"猫が好き"}</body></html>'
    assert decoded(page.encode("shift_jis")) == page


def test_what_claims_latin_1_is_read_as_browsers_do() -> None:
    assert decoded(b"It\x92s \x93so\x94", "text/html; charset=latin-1") == "It’s “so”"


@pytest.mark.parametrize(
    ("text", "masked", "counts"),
    [
        ("a.b+c@mail.example.org.", "email@example.com.", {"emails": 1}),
        ("email@example.com", "email@example.com", {}),
        ("from 8.8.4.4, not 10.0.0.1", "from 192.0.2.1, not 10.0.0.1", {"ip_addresses": 1}),
        ("at 2a00:1450:4001:80b::200e now", "at 2001:db8::1 now", {"ip_addresses": 1}),
        ("at 12:30:45 std::vector ::1", "at 12:30:45 std::vector ::1", {}),
        ("call (650) 253-0000!", "call +1-202-555-0100!", {"phone_numbers": 1}),
        ("call +49 30 901820", "call +1-202-555-0100", {"phone_numbers": 1}),
        ("in 1984, 3.14159 of 100,000,000", "in 1984, 3.14159 of 100,000,000", {}),
    ],
)
def test_personal_data_is_masked(text: str, masked: str, counts: dict[str, int]) -> None:
    mask = Masker(PersonalDataSection())
    assert mask(text) == (masked, counts)
    assert mask(masked) == (masked, {})


def test_what_is_switched_off_is_not_masked() -> None:
    of = PersonalDataSection(emails=False, ip_addresses=False, phone_numbers=False)
    text = "a@b.org 8.8.8.8 +1 650-253-0000"
    assert Masker(of)(text) == (text, {})


def test_each_choice_of_an_item_is_a_text_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps({"query": "a b", "choices": ["c", "d"], "gold": 0}))
    assert [texts for _, texts in items([str(file)])] == [["a b c", "a b d"]]


def test_an_item_is_found_by_any_of_its_passages(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(20)]
    (tmp_path / "items.jsonl").write_text(
        json.dumps({"context": " ".join(words[:15]), "continuation": " ".join(words[15:])})
    )
    (tmp_path / "text.txt").write_text(
        "One two three.\n\nFour five six seven eight nine ten eleven."
    )
    files = (str(tmp_path / "items.jsonl"), str(tmp_path / "text.txt"))
    index = Index(ContaminationSection(files=files))
    assert (index.num_items, index.num_short) == (3, 1)
    for start in range(8):  # 13 of 20 words, across the border between context and continuation
        found = index.find("Then: " + ", ".join(words[start : start + 13]).upper() + "!")
        assert found == (f"{files[0]}:1", " ".join(words[start : start + 13]))
    assert index.find(" ".join(words[:12])) is None
    assert index.find("Four five, six seven eight nine ten eleven?") == (
        f"{files[1]}#2", "four five six seven eight nine ten eleven",
    )  # fmt: skip
    assert index.find("One two three.") is None


def test_an_id_beside_a_question_does_not_hide_it(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    question = "who brought the ninth lantern from the coast"
    rows = [
        {"id": "q 1", "question": question},
        {"id": "an id of some words", "q": "what now then"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    index = Index(ContaminationSection(files=(str(file),)))
    assert index.find(f"Look: {question}?") == (f"{file}:1", question)
    assert index.find("What now, then?") is None
    named = Index(ContaminationSection(files=(str(file),), fields=("question", "q")))
    assert (named.num_items, named.num_short) == (2, 1)
    with pytest.raises(ConfigError, match=r"items\.jsonl:1: has none of contamination\.fields"):
        Index(ContaminationSection(files=(str(file),), fields=("q",)))


def test_examples_hold_no_personal_data_wherever_they_are_cut(tmp_path: Path) -> None:
    mask = Masker(PersonalDataSection())
    item = "write to clara smith village org and ask for the old boat"
    (tmp_path / "items.txt").write_text(item)
    removed = Removed(tmp_path / "removed", 3, 20, lambda text: mask(text)[0])
    text = "write to clara.smith@village.org and ask for the old boat"
    url = "http://a.example/?to=clara.smith@village.org"
    document = Document(text=text, id="1", metadata={"url": url})
    with removed:
        of = ContaminationSection(files=(str(tmp_path / "items.txt"),))
        step = Contamination(of, removed)
        document.text = f"{text} {item}"  # as it stands there, and as datatrove simplifies it
        assert step.filter(document) == (False, str(tmp_path / "items.txt"))
        document.text = text
        removed.write(document)
    found = examples(tmp_path / "removed", 3)
    shown = json.dumps(found)
    assert found["matches"]
    assert "write to email@" in shown
    for secret in ("clara.smith", "clara.s"):
        assert secret not in shown


def test_pages_of_an_object_store_are_read_by_url(caplog: pytest.LogCaptureFixture) -> None:
    warc = Warc()
    warc.add("http://a.example/1", page("One."))
    system = fsspec.filesystem("memory")
    system.pipe_file("/crawl/a.warc.gz", warc.raw)
    system.pipe_file("/crawl/readme.txt", b"Not a page.")
    system.pipe_file(
        "/texts/b.jsonl.gz", gzip.compress(b'{"text": "Two."}\n{"text": "Three."}\n[]')
    )
    ignored = Counter[str]()
    files = found(["memory://crawl"], ignored)
    assert ignored == {".txt": 1}
    assert "memory:///crawl/a.warc.gz: its store tells no time and no ETag" in caplog.text
    assert [(file, about["bytes"]) for file, about in files.items()] == [
        ("memory:///crawl/a.warc.gz", len(warc.raw))
    ]
    pages = list(Pages(list(files), ReadingSection()).run())
    assert [one.metadata["url"] for one in pages] == ["http://a.example/1"]
    rows = Pages(list(found(["memory://texts"])), ReadingSection())
    assert [one.text for one in rows.run()] == ["Two.", "Three."]
    assert any("broken JSON" in name or "not a" in name for name in rows.stats.stats)
    with pytest.raises(ConfigError, match="no file that is read"):
        found(["memory://crawl/readme.txt"])


def packed_zst(raw: bytes) -> bytes:
    """Two frames, as a .warc.zst has one a record."""
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    return pack(raw[: len(raw) // 2]) + pack(raw[len(raw) // 2 :])


@pytest.mark.parametrize("ending", [".warc", ".html", ".jsonl"])
@pytest.mark.parametrize(("packing", "pack"), [(".gz", gzip.compress), (".zst", packed_zst)])
def test_a_flipped_bit_costs_a_file_and_not_the_crawl(
    tmp_path: Path, ending: str, packing: str, pack: Callable[[bytes], bytes]
) -> None:
    noise = random.Random(1)
    long = page("".join(noise.choices(string.ascii_letters, k=100_000)))  # of several blocks
    warc = Warc()
    warc.add("http://a.example/1", long)
    raw = {".html": long.encode(), ".jsonl": json.dumps({"text": long}).encode()}.get(ending)
    if raw is None:
        raw = gzip.decompress(warc.raw)
    packed = bytearray(warc.raw if (ending, packing) == (".warc", ".gz") else pack(raw))
    file = tmp_path / f"a{ending}{packing}"
    file.write_bytes(packed)
    [whole] = Pages([str(file)], ReadingSection()).run()
    assert whole.text == long
    for place in (3, len(packed) // 4, len(packed) // 2, len(packed) - 2):
        flipped = bytearray(packed)
        flipped[place] ^= 4
        file.write_bytes(flipped)
        pages = Pages([str(file)], ReadingSection())
        assert not list(pages.run())
        faults = [name for name in pages.stats.stats if name.startswith("file at fault: ")]
        assert len(faults) == 1


def test_a_file_at_fault_stops_the_crawl_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_text("This is no WARC file.")
    reading = ReadingSection(on_error="stop")
    with pytest.raises(ConfigError, match="not a WARC file; --set reading"):
        list(Pages([str(tmp_path / "a.warc")], reading).run())


# datatrove asks tldextract in the way of its version 5, which the extra keeps.
@pytest.mark.filterwarnings("ignore:The 'registered_domain' property:DeprecationWarning")
def test_pages_of_listed_domains_and_addresses_go(tmp_path: Path) -> None:
    (tmp_path / "domains").write_text("# mine\nbad.co.uk\n")
    (tmp_path / "urls").write_text("http://good.org/this\n")
    of = UrlSection(domains=str(tmp_path / "domains"), urls=str(tmp_path / "urls"))
    keeps = addresses(of, "en", Removed(tmp_path, 1, 1, str)).filter

    def at(url: str) -> Document:
        return Document(text="", id="1", metadata={"url": url} if url else {})

    assert keeps(at("http://www.bad.co.uk/a")) == (False, "domain")
    assert keeps(at("http://good.org/this")) == (False, "url")
    assert keeps(at("http://good.org/that")) is True
    assert keeps(at("")) is True


def test_english_stop_words_are_of_english() -> None:
    with pytest.raises(ConfigError, match="stop_words are English"):
        CrawlConfig.parse({"inputs": ["x"], "language": {"code": "de"}})
    CrawlConfig.parse(
        {"inputs": ["x"], "language": {"code": "de"}, "gopher_quality": {"stop_words": ["der"]}}
    )


STANZA = """class DownloadMethod:
    NONE = "none"
class Pipeline:
    def __init__(self, language, processors, download_method):
        assert download_method == "none"
        raise FileNotFoundError(f"no model of {language}")
"""


def test_no_model_of_words_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stanza" / "pipeline").mkdir(parents=True)
    for folder in ("stanza", "stanza/pipeline"):
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "stanza" / "pipeline" / "core.py").write_text(STANZA)
    (tmp_path / "stanza-1.0.dist-info").mkdir()
    (tmp_path / "stanza-1.0.dist-info" / "METADATA").write_text("Name: stanza\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = CrawlConfig.parse(
        {"inputs": ["a.html"], "language": {"code": "be"}, "gopher_quality": {"enabled": False}}
    )
    with pytest.raises(ConfigError, match=r"model of stanza, which is not here \(no model of be"):
        check(config)


def test_a_changed_tokenizer_is_another_crawl(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>Hello.</p>")
    (tmp_path / "b.txt").write_text("No page.")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    tokenizer = tmp_path / "tokenizer"
    config = CrawlConfig.parse({"inputs": [str(tmp_path)], "store": {"tokenizer": str(tokenizer)}})
    Tokenizer.characters(["abc"]).save(tokenizer)
    begun = record.facts(config)
    assert begun["ignored"] == {".json": 3, ".txt": 1}  # of the tokenizer's folder, too
    record.begin(tmp_path / "out", config, begun, resume=False, overwrite=False)
    for file in tokenizer.iterdir():
        file.unlink()
    Tokenizer.characters(["abcd"]).save(tokenizer)
    with pytest.raises(ConfigError, match="tokenizer: has changed since the crawl was started"):
        crawl(config, tmp_path / "out", resume=True)
    run = CrawlConfig.parse(
        {"inputs": [str(tmp_path)], "store": {"tokenizer": str(tmp_path / "run")}}
    )
    with pytest.raises(ConfigError, match="checkpoint"):  # looked for as `data prepare` does
        record.facts(run)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": {"model": "none.bin"}}, "language.model = none.bin: no such file"),
        ({"language": {"code": "xx-no"}, "gopher_quality": {"enabled": False}}, "language.code"),
        ({"personal_data": {"phone_region": "XX"}}, "phone_region = XX: no such region"),
        ({"contamination": {"files": ["none.jsonl"]}}, "none.jsonl: no such file"),
        ({"url": {"domains": "none.txt"}}, "url.domains = none.txt: no such file"),
        ({"inputs": ["none.warc"]}, "none.warc: no such file"),
    ],
)
def test_faults_are_found_before_anything_is_read(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    (tmp_path / "a.html").write_text("<p>Hello.</p>")
    config = CrawlConfig.parse({"inputs": [str(tmp_path / "a.html")], **settings})
    with pytest.raises(ConfigError, match=re.escape(message)):
        crawl(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
