"""The reports tell what the files hold, stand alone, and survive files that are still growing."""

import json
import math
import re
import time
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from foundling.reports import guard_story
from foundling.reports.ladder_report import write_ladder_report
from foundling.reports.run_plots import UNDONE
from foundling.reports.run_report import write_run_report
from foundling.runs.records import by_split, read_records, undone

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Parses strictly: each tag must close what is open; collects text and attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> with nothing open"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def train(step: int, loss: float = 4.0) -> dict[str, Any]:
    return {
        "split": "train", "step": step, "tokens": step * 1000, "loss_nats": loss,
        "gradient_norm": 1.0, "learning_rate": 0.001, "learning_rate_muon": 0.02,
        "seconds": step * 2.0, "tokens_per_second": 500.0, "matrix_rate_fraction": 0.41,
    }  # fmt: skip


def validation(step: int, loss: float, bits: float | None = None) -> dict[str, Any]:
    return {
        "split": "validation", "step": step, "tokens": step * 1000, "loss_nats": loss,
        "bits_per_byte": bits, "loss_by_position": [loss + 1 / p for p in range(1, 33)],
        "seconds": step * 2.0,
    }  # fmt: skip


def samples(step: int, text: str) -> dict[str, Any]:
    return {"split": "samples", "step": step, "samples": [{"prompt": "Once", "text": text}]}


def act(number: int, kind: str, step: int, message: str, **more: Any) -> list[dict[str, Any]]:
    """An act as it is logged: what is to be done, and that it is done."""
    intent = {"id": number, "phase": "intent", "kind": kind, "step": step, "message": message}
    return [{**intent, **more}, {"id": number, "phase": "commit"}]


def note(number: int, kind: str, step: int, message: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "phase": "note", "kind": kind, "step": step, "message": message, **more}


def skip(number: int, step: int, message: str) -> list[dict[str, Any]]:
    worst = [
        {"sample": 1234, "loss_nats": "nan", "token": 9, "documents": [5, 7],
         "text": "<img src=x onerror=alert(1)>\x00\ud800 & so on"},
        {"sample": 1235, "loss_nats": 11.25, "token": 99, "documents": [12, 12], "text": "plain"},
    ]  # fmt: skip
    losses = ["nan", 11.25, 3.0, 4.0]
    return act(number, "skip", step, message, skipped=[step * 4, step * 4 + 4],
               sequence_losses_nats=losses, worst_sequences=worst)  # fmt: skip


def rewind(number: int, step: int, to: int) -> list[dict[str, Any]]:
    return act(number, "rewind", step, "went back", to=to, skipped=[to * 4, (step + 1) * 4],
               rate_cut=[to, 0.5, 20])  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose report has been written, for tests that only read it."""
    folder = make_run(tmp_path_factory.mktemp("reported"))
    assert write_run_report(folder) == folder / "report.html"
    return folder


def make_run(parent: Path) -> Path:
    folder = parent / "my run"
    folder.mkdir()
    records = [train(step, 9 - step / 10) for step in range(1, 61)]
    records[30:30] = [validation(30, 5.5, 2.75), samples(30, "early")]
    records += [validation(60, 3.0, 1.5), samples(60, "<script>alert('no')</script> & more")]
    write_lines(folder / "metrics.jsonl", records)
    write_lines(folder / "events.jsonl", [*skip(1, 7, "a <b> spike"), *rewind(2, 40, 25)])
    (folder / "config.toml").write_text('seed = 1\n[model]\nrung = "transformer"\n', "utf-8")
    manifest = {"model": {"parameters": 10_795_776}, "parent": None, "versions": {"torch": "2.13"}}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


def test_a_run_report_tells_the_headline_figures(reported: Path) -> None:
    page = Page(reported / "report.html")
    perplexity = f"{math.exp(3):.4g}"
    values = re.findall(r"<strong>(.*?)</strong>", (reported / "report.html").read_text("utf-8"))
    for figure in ("3.0000", "1.5000", perplexity, "60k", "2 min 0 s", "10.8M"):
        assert figure in values
    for told in (
        "a <b> spike",
        "transformer",
        "versions.torch",
        "41% of the matrix rate",
        "my run",
    ):
        assert told in page.text
    assert page.count("svg") == 3
    assert all(tags.get("aria-label") for tag, tags in page.tags if tag == "svg")
    for stem in ("loss", "learning_rate", "loss_by_position"):
        assert (reported / "plots" / f"{stem}.png").stat().st_size > 1000
        assert (reported / "plots" / f"{stem}.svg").stat().st_size > 1000


def test_the_latest_samples_come_first_and_open(reported: Path) -> None:
    page = Page(reported / "report.html")
    details = [attributes for tag, attributes in page.tags if tag == "details"]
    # First the batch that was skipped, closed; then the samples.
    assert ["open" in attributes for attributes in details] == [False, True, False]
    assert page.text.index("Step 60") < page.text.index("Step 30")


def test_what_a_model_writes_is_text_and_never_markup(reported: Path) -> None:
    page = Page(reported / "report.html")
    assert page.count("script") == 0
    assert "<script>alert('no')</script> & more" in page.text


def test_the_page_stands_alone(reported: Path) -> None:
    path = reported / "report.html"
    for tag, attributes in Page(path).tags:
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), f"{tag} loads {value}"
    source = path.read_text("utf-8")
    assert not re.search(r"https?:|@import|url\((?!#)", source)
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))


def test_nothing_unfinished_stays_behind_and_rewriting_gives_the_same(reported: Path) -> None:
    first = (reported / "report.html").read_bytes()
    assert write_run_report(reported).read_bytes() == first
    assert not [path for path in reported.rglob("*") if path.name.startswith(".")]


def test_a_torn_last_line_is_left_out(run: Path) -> None:
    with (run / "metrics.jsonl").open("ab") as file:
        file.write('{"split": "train", "step": 61, "name": "é'.encode()[:-1])
    assert read_records(run / "metrics.jsonl")[-1]["step"] == 60


def test_a_broken_line_in_the_middle_is_named(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text("utf-8").split("\n")
    lines[4] = lines[4][:20]
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 5: not a JSON object"):
        write_run_report(run)
    path.write_text("3\n" + lines[0] + "\n", "utf-8")
    with pytest.raises(ValueError, match="line 1: not a JSON object"):
        read_records(path)


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl: no such file.*run folder"):
        write_run_report(tmp_path)
    with pytest.raises(ValueError, match=r"ladder\.json: no such file.*ladder folder"):
        write_ladder_report(tmp_path)


@pytest.mark.parametrize("records", [[], [train(1)], [validation(0, 9.0)], [train(1, math.nan)]])
def test_a_run_that_has_just_begun_has_a_report(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    write_lines(tmp_path / "metrics.jsonl", records)
    page = Page(write_run_report(tmp_path))
    assert "No samples yet" in page.text
    assert ("no validation yet" in page.text) == (not records or records[0]["split"] == "train")


def test_steps_that_the_run_undid_are_gone() -> None:
    records = [train(1), train(2), validation(2, 4.0), train(3), validation(3, 99.0), train(3, 2.0)]
    splits = by_split([*records, train(4)])
    assert [(r["step"], r["loss_nats"]) for r in splits["train"]] == [
        (1, 4.0), (2, 4.0), (3, 2.0), (4, 4.0)
    ]  # fmt: skip
    assert [r["step"] for r in splits["validation"]] == [2]


def test_a_validation_written_before_its_training_record_stays() -> None:
    splits = by_split([train(1), validation(2, 4.0), train(2)])
    assert [r["step"] for r in splits["validation"]] == [2]


def section(path: Path, start: str, end: str) -> str:
    """The page's text from one heading to another, spaces and lines as one space."""
    text = " ".join(Page(path).text.split())
    return text[text.index(start) : text.index(end)]


def test_what_the_guard_did_comes_before_the_samples_latest_first(reported: Path) -> None:
    told = section(reported / "report.html", "What the guard did", "Samples Step 60")
    assert (
        "The guard acted twice: 1 skip, 1 rewind; 68 samples left out; "
        "learning rate × 0.5 from step 25."
    ) in told
    assert told.index("40 rewind went back 64") < told.index("7 skip a <b> spike")
    page = Page(reported / "report.html")
    label = next(tags["aria-label"] for tag, tags in page.tags if tag == "svg")
    assert label is not None
    assert "The guard acted twice" in label


def test_the_batch_that_set_it_off_can_be_looked_at(reported: Path) -> None:
    told = section(reported / "report.html", "What the guard did", "Samples Step 60")
    for words in (
        "4 sequences, median loss 4.00 nats, 1 not finite",
        "sample 1,234 · documents 5 to 7 · nan nats <img src=x onerror=alert(1)>\ufffd\ufffd &",
        "sample 1,235 · document 12 · 11.25 nats plain",
    ):
        assert words in told
    assert Page(reported / "report.html").count("img") == 0


def test_an_unfinished_act_is_said_and_notes_are_no_acts(run: Path) -> None:
    lines = [
        note(1, "transient", 3, "the loss is nan; computed again, the step was well"),
        note(2, "hard data", 5, "rising"),
    ]
    write_lines(run / "events.jsonl", lines)
    told = section(write_run_report(run), "What the guard did", "Samples Step 60")
    assert "It noted 1 transient fault, 1 hard stretch and changed nothing." in told
    assert "The guard acted" not in told
    assert "unfinished" not in told
    write_lines(run / "events.jsonl", [*lines, skip(3, 9, "a spike")[0]])
    told = section(write_run_report(run), "What the guard did", "Samples Step 60")
    assert "The guard acted once: 1 skip; 4 samples left out. It noted 1 transient" in told
    assert told.count("unfinished") == 1


def test_without_events_nothing_is_said_of_the_guard(run: Path) -> None:
    (run / "events.jsonl").unlink()
    page = Page(write_run_report(run))
    assert "guard" not in page.text
    assert "What the guard did" not in page.text


def test_an_act_tells_only_what_it_left_out_anew() -> None:
    events = [{"skipped": [0, 8]}, {}, {"skipped": [4, 12]}]
    assert [event["left_out"] for event in guard_story.told(events)] == [8, 0, 4]


def test_an_undone_stretch_ends_with_the_batch_that_was_refused() -> None:
    records = [train(1, 5), train(2, 4), train(3, 8), train(2, 4.5), train(3, 4), train(4, 3)]
    stands, stretches = by_split(records)["train"], undone(records)
    back = {"kind": "rewind", "step": 3, "to": 1, "sequence_losses_nats": [10.0, 14.0]}
    curves = guard_story.undone_curves(stands, stretches, [back])
    assert [(curve.x, curve.y) for curve in curves] == [([2, 3, 4], [4, 8, 12])]
    # A skip undoes no step: its batch stands out from the step before.
    skipped = {"kind": "skip", "step": 3, "sequence_losses_nats": [9.0, "inf"]}
    curves = guard_story.undone_curves(stands, [], [skipped])
    assert [(curve.x, curve.y) for curve in curves] == [([3, 4], [4, math.inf])]
    # Going back twice from the same step: each its own stretch, in their order.
    twice = [[train(2, 6), train(3, 7)], [train(2, 8), train(3, 9)]]
    events = [back, {**back, "sequence_losses_nats": [20.0]}]
    curves = guard_story.undone_curves(stands, twice, events)
    assert [curve.y for curve in curves] == [[6, 7, 12], [8, 9, 20]]
    # A note has no batch, and the log may remember a way back whose records are cut off.
    transient = {"kind": "transient", "step": 2}
    assert guard_story.undone_curves(stands, [], [transient, {**back, "step": 99}]) == []


def test_the_plot_of_a_run_that_went_back_shows_what_was_undone(run: Path) -> None:
    records = [train(step, 5.0) for step in range(1, 41)]
    records += [train(step, 4.0) for step in range(26, 61)]
    write_lines(run / "metrics.jsonl", records)
    write_run_report(run)
    assert UNDONE in (run / "plots" / "loss.svg").read_text("utf-8")
    write_lines(run / "metrics.jsonl", [train(step, 5.0) for step in range(1, 61)])
    (run / "events.jsonl").unlink()
    write_run_report(run)
    assert UNDONE not in (run / "plots" / "loss.svg").read_text("utf-8")


def ladder(folder: Path, bits: float | None) -> Path:
    rows = []
    for rung, loss in (("transformer", 3.0), ("my_rung", 6.0), ("next_word", 5.0)):
        rows.append(
            {
                "rung": rung, "run": f"runs of/{rung}", "parameters": 2_000_000, "steps": 60,
                "tokens": 60_000, "loss_nats": loss, "bits_per_byte": bits and loss * bits,
                "tokens_per_second": 500.0, "seconds": 12.0,
                "loss_by_position": [loss + 1 / p for p in range(1, 33)],
            }
        )  # fmt: skip
        run = folder / "runs of" / rung
        run.mkdir(parents=True)
        write_lines(run / "metrics.jsonl", [validation(30, 6.0, 3.0), validation(60, loss, 2.0)])
    data = {"name": "novels", "tokens": 5_600_000, "bytes": 19_600_000, "vocab_size": 8192}
    (folder / "ladder.json").write_text(json.dumps({"data": data, "rows": rows}), "utf-8")
    return folder


def test_a_ladder_report_ranks_the_rungs_and_links_their_reports(tmp_path: Path) -> None:
    folder = ladder(tmp_path / "ladder", 0.5)
    (folder / "runs of" / "transformer" / "report.html").touch()
    page = Page(write_ladder_report(folder))
    table = page.text.index("what it remembers")
    order = [page.text.index(rung, table) for rung in ("next_word", "transformer", "my_rung")]
    assert order == sorted(order)
    assert "transformer at 1.500 bits per byte" in page.text
    assert "the last token alone" in page.text
    links = [tags["href"] for tag, tags in page.tags if tag == "a"]
    assert links == ["runs%20of/transformer/report.html"]
    assert page.count("svg") == 3
    assert all(tags.get("scope") for tag, tags in page.tags if tag == "th")


def test_a_ladder_without_bytes_is_measured_in_nats(tmp_path: Path) -> None:
    page = Page(write_ladder_report(ladder(tmp_path, None)))
    assert "transformer at 3.000 nats per token" in page.text


def test_a_long_run_is_reported_fast_enough_to_do_so_at_each_validation(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    for step in range(1, 10_001):
        records.append(train(step, 3 + 6 / step**0.5))
        if step % 250 == 0:
            records.append(validation(step, 3 + 6 / step**0.5, 1.5))
    write_lines(tmp_path / "metrics.jsonl", records)
    start = time.process_time()
    write_run_report(tmp_path)
    assert time.process_time() - start < 3.0  # measured: 0.9 s
