"""The page of an evaluation and the terminal's table: what they say, and that they can be read."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluated import Made, evaluated, metric, subject
from rich.console import Console

from foundling.evaluation.findings import Baseline, Curve, Findings, Point, Shown
from foundling.evaluation.results import results
from foundling.reports.evaluation_curves import curves_plot
from foundling.reports.evaluation_report import write_evaluation_report
from foundling.reports.evaluation_table import headlines
from foundling.reports.in_words import (
    against_chance,
    decimals,
    difference_text,
    ends_text,
    interval_text,
    number,
    of_difference,
    p_text,
    span,
    value_text,
)
from foundling.reports.plot_keys import drawn_models

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<script>alert(\"x\")</script> & '$y^2$' [red]"
RIGHT, WRONG = [1.0] * 40, [0.0] * 40
HALF = [0.0, 1.0] * 20


def content(*found: Findings, names: Sequence[str] = ("base", "tuned", "last")) -> dict[str, Any]:
    """The results of one probe: of each model what was found."""
    names = names[: len(found)]
    probe = Made("probe", "A probe")
    by = {("probe", name): one for name, one in zip(names, found, strict=True)}
    return results([subject(name, n) for n, name in enumerate(names)], [probe], by, {"seed": 1})


def written(of: dict[str, Any], folder: Path) -> str:
    path = write_evaluation_report(of, folder, "Evaluation")
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def rows(html: str) -> list[str]:
    """The text of each table row, tags gone and spaces single."""
    found = re.findall(r"<tr.*?</tr>", html, flags=re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in found]


def terminal(of: dict[str, Any], width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(headlines(of))
    return console.export_text()


# --------------------------------------------------------------------------------- words


def value(low: float, mean: float, high: float, **more: Any) -> dict[str, Any]:
    return {"value": mean, "low": low, "high": high, "chance": None, "baseline": None, **more}


def test_shares_are_per_cent_and_numbers_show_their_interval() -> None:
    assert number(0.625, "share") == "62.5%"
    assert number(None, "share") == "–"
    assert number(float("inf"), "number") == "not finite"
    assert number(12345.6, "number") == "12,346"
    assert decimals(3.1, 3.9) == 2
    assert value_text(value(1.1, 1.2345, 1.3), "number") == "1.23"
    assert interval_text(value(0.5, 0.6, 0.7), "share") == "50.0 to 70.0%"
    assert interval_text({**value(0, 1, 1), "low": None}, "share") == "no interval"
    assert ends_text(value(0.594, 0.625, 0.656), "share") == "59.4 – 65.6"
    assert ends_text(value(0.594, 0.625, 0.656), "share", short=True) == "59–66"
    assert ends_text(value(3.1, 3.5, 3.9), "number") == "3.10 – 3.90"
    assert ends_text(value(None, 3.5, None), "number") == ""
    assert span([0.25, 0.2, 0.25], "share") == "20.0% to 25.0%"
    assert span([], "share") == "–"
    assert p_text(0.0001) == "< 0.001"
    assert p_text(0.0321) == "0.032"


@pytest.mark.parametrize(
    ("low", "high", "good", "text", "tone"),
    [
        (0.4, 0.6, "high", "at chance", "plain"),
        (0.6, 0.7, "high", "above chance", "good"),
        (0.6, 0.7, "low", "above chance", "bad"),
        (0.3, 0.4, "low", "below chance", "good"),
        (0.3, 0.4, "high", "below chance", "bad"),
        (0.3, 0.4, "neither", "below chance", "plain"),
    ],
)
def test_a_figure_is_held_against_chance(
    low: float, high: float, good: str, text: str, tone: str
) -> None:
    found = against_chance(value(low, (low + high) / 2, high, chance=0.5), good)
    assert found is not None
    assert (found.text, found.tone) == (text, tone)


def test_what_beats_chance_may_not_beat_its_baseline() -> None:
    known = value(0.6, 0.65, 0.7, chance=0.5, baseline={"value": 0.62, "rule": "the longest"})
    found = against_chance(known, "high")
    assert found is not None
    assert found.text == "above chance, not beyond the baseline"
    assert found.tone == "plain"
    assert against_chance(value(0.6, 0.65, 0.7), "high") is None


def test_a_difference_is_shown_only_when_it_is() -> None:
    known = {"value": 0.1, "low": 0.02, "high": 0.18, "p_value": 0.01, "adjusted_p_value": 0.02}
    assert difference_text(known, "share") == ("+10.0", "+2.0 to +18.0")
    assert of_difference(known, "high").text == "better"
    assert of_difference(known, "low").text == "worse"
    assert of_difference(known, "neither").text == "higher"
    assert of_difference({**known, "low": -0.01}, "high").text == "no difference shown"
    assert of_difference({**known, "low": None}, "high").text == "no difference shown"
    late = {**known, "adjusted_p_value": 0.3}
    assert of_difference(late, "high").text == "not shown once adjusted"


# ---------------------------------------------------------------------------------- page


def test_the_page_says_the_figures_in_words(tmp_path: Path) -> None:
    options: dict[str, Any] = {"chance": 0.5, "headline": True}
    baseline = Baseline(0.55, "always the first")
    first = Findings([metric("Accuracy", HALF, baseline=baseline, **options)])
    second = Findings([metric("Accuracy", RIGHT, baseline=baseline, **options)])
    html = written(content(first, second), tmp_path)
    told = next(row for row in rows(html) if row.startswith("Accuracy higher is better"))
    assert told == (
        "Accuracy higher is better 50.0% 35.2 to 64.8% n = 40 at chance "
        "100.0% 91.2 to 100.0% n = 40 above chance 50.0% 55.0% always the first"
    )
    step = next(row for row in rows(html) if row.startswith("Accuracy A probe"))
    assert "+50.0 points" in step
    assert step.endswith("better")
    assert "asked in plain text" in html
    assert "asked in turns of a conversation" in html
    assert json.loads((tmp_path / "results.json").read_text())["probes"][0]["name"] == "probe"
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"p0_probe_1.png", "p0_probe_1.svg"}


def test_a_figure_that_a_model_lacks_is_a_dash(tmp_path: Path) -> None:
    both = metric("Both", HALF, headline=True)
    html = written(
        content(Findings([both]), Findings([both, metric("One", HALF), metric("None", [])])),
        tmp_path,
    )
    found = rows(html)
    assert any(re.fullmatch(r"One higher is better – 50\.0% .* n = 40 – –", row) for row in found)
    assert "None higher is better – – – –" in found


def test_groups_are_said(tmp_path: Path) -> None:
    twins = {str(n): str(n // 2) for n in range(40)}
    html = written(content(Findings([metric("Twins", HALF, groups=twins)])), tmp_path)
    assert "n = 40 in 20 groups" in html


def test_one_model_has_no_differences(tmp_path: Path) -> None:
    html = written(content(Findings([metric("Accuracy", HALF, headline=True)])), tmp_path)
    assert "What differs" not in html
    assert "Differences" not in html


def test_nothing_found_is_said(tmp_path: Path) -> None:
    empty = Findings(notes=["not measured: bench/wsc.jsonl is not below --data-root"])
    html = written(content(empty, Findings(notes=list(empty.notes))), tmp_path)
    assert "Nothing was measured." in html
    assert "No headline figure was measured." in html
    assert html.count("bench/wsc.jsonl") == 1


def test_notes_name_models_only_where_they_differ(tmp_path: Path) -> None:
    found = [Findings(notes=["said of all"]) for _ in range(3)]
    found[0].notes.insert(0, "said of two")
    found[2].notes.append("said of two")
    html = written(content(*found), tmp_path)
    notes = [" ".join(re.sub("<[^>]*>", "", li).split()) for li in re.findall("<li>.*?</li>", html)]
    assert notes == ["said of all", "base, last: said of two"]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    point = Point(1, 0.5, 0.4, 0.6)
    findings = Findings(
        [metric(HOSTILE, HALF, headline=True, note=HOSTILE, baseline=Baseline(0.5, HOSTILE))],
        [Curve(HOSTILE, HOSTILE, (point, replace(point, x=2)), HOSTILE, HOSTILE)],
        [HOSTILE, "long " * 2000],
        [Shown(HOSTILE + "\x07", HOSTILE, HOSTILE)],
    )
    of = content(findings, findings, names=(HOSTILE, "_b"))
    html = written(of, tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\x07" not in html
    assert "[red]" in terminal(of, 200)
    assert "script" in terminal(of, 60)


def test_offensive_items_stand_behind_a_warning(tmp_path: Path) -> None:
    shown = [Shown(f"item {n}", f"answer {n}") for n in range(12)]
    html = written(content(Findings(shown=shown), Findings(shown=shown[5:])), tmp_path)
    block = re.search(r"<details>\s*<summary>Items to look at.*?</details>", html, re.DOTALL)
    assert block is not None
    assert "they may offend" in block[0]
    assert block[0].index("item 5") < block[0].index("item 0")  # both models were seen at it
    assert "4 more stand in <code>results.json</code>" in block[0]


def test_curves_are_drawn_and_tabled(tmp_path: Path) -> None:
    endless = float("inf")
    points = (Point(0, 0.5, 0.4, 0.6), Point(4, 0.75, -endless, endless))
    diagonal = tuple(Point(x, x, x, x) for x in (0.0, 1.0))
    findings = Findings(
        curves=[
            Curve("SST-2", "real examples", points, "examples", "accuracy", 0.5),
            Curve("Reliability", "calibrated", diagonal, "confidence", "accuracy"),
            Curve("Empty", "nothing", (), "examples", "accuracy"),
        ]
    )
    html = written(content(findings), tmp_path)
    assert any(
        row.endswith("real examples 50.0% 40.0 to 60.0% 75.0% no interval") for row in rows(html)
    )
    assert "Reliability" not in html, "a diagonal alone shows nothing"
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {
        "p0_probe_curve1.png", "p0_probe_curve1.svg",
    }  # fmt: skip
    kept = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert kept["probes"][0]["curves"][0]["points"][1]["high"] is None


def frames(x_label: str, xs: Sequence[float], names: Sequence[str], models: int) -> list[Any]:
    """The frames in which the curves of so many models are drawn."""
    subjects = [f"m{n}" for n in range(models)]
    points = [{"x": x, "y": 0.5, "low": 0.4, "high": 0.6} for x in xs]
    curves = [
        {"subject": subject, "figure": "f", "name": name, "points": points, "x_label": x_label,
         "y_label": "accuracy", "chance": 0.5}
        for subject in subjects for name in names
    ]  # fmt: skip
    figure = curves_plot("f", curves, drawn_models({name: name for name in subjects}))
    return [axes for axes in figure.axes if axes.get_xlabel()]


@pytest.mark.parametrize(
    ("names", "models", "count"),
    [(["real"], 6, 1), (["real", "shuffled"], 2, 1), (["real", "shuffled"], 3, 3)],
)
def test_models_with_several_curves_have_frames_of_their_own(
    names: list[str], models: int, count: int
) -> None:
    assert len(frames("examples", [0, 1, 16], names, models)) == count


def test_each_kind_of_curve_has_its_axis() -> None:
    (few,) = frames("examples", [0, 1, 2, 16], ["real"], 1)
    assert list(few.get_xticks()) == [-1, 0, 1, 4]
    assert [label.get_text() for label in few.get_xticklabels()] == ["0", "1", "2", "16"]
    (long,) = frames("position in the context", [1, 30, 512], ["text"], 1)
    assert long.get_xscale() == "log"
    (sure,) = frames("confidence", [0.4, 0.9], ["text"], 1)
    assert sure.get_xlim() == (0, 1)
    assert sure.get_ylim()[0] == 0


def test_families_are_adjusted_apart() -> None:
    many = [metric(f"m{n}", HALF) for n in range(30)]
    two = [[metric("Accuracy", x, headline=True), *many] for x in (WRONG, RIGHT)]
    of = content(*map(Findings, two))
    (found,) = of["probes"][0]["metrics"][0]["differences"]
    assert found["adjusted_p_value"] == found["p_value"]
    assert of["probes"][0]["metrics"][1]["differences"][0]["adjusted_p_value"] == 1


# ------------------------------------------------------------------------------ terminal


def test_the_table_has_a_column_a_model() -> None:
    of = content(
        Findings([metric("Accuracy", HALF, chance=0.5, headline=True), metric("Other", HALF)]),
        Findings([metric("Accuracy", RIGHT, chance=0.5, headline=True)]),
    )
    text = terminal(of)
    assert re.search(r"base +tuned +chance", text)
    assert re.search(
        r"Accuracy ↑ +50\.0% \(35\.2 – 64\.8\)° +100\.0% \(91\.2 – 100\.0\) +50\.0%", text
    )
    assert "Other" not in text


def test_six_models_fit_into_a_terminal() -> None:
    found = [Findings([metric("Accuracy", HALF, chance=0.5, headline=True)]) for _ in range(6)]
    names = [f"/home/ann/runs/a-long-name-{n}" for n in range(6)]
    text = terminal(content(*found, names=names), 80)
    assert text.count("50.0%") == 7, "six figures and chance"
    assert text.count("35–65°") == 6
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())


# ---------------------------------------------------------------------------- in a browser


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
@pytest.mark.parametrize("count", [1, 3, 6])
def test_the_page_can_be_read_on_a_phone(browser: Any, tmp_path: Path, count: int) -> None:
    names = ["base", "instructed", "preferred", HOSTILE, "x" * 80, "/runs/last"][:count]
    path = write_evaluation_report(evaluated(names, num_items=30), tmp_path, "Evaluation")
    for width in (390, 1280):
        page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
        page.on("console", lambda message, faults=faults: faults.append(message.text))
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("section.probe").count() == 8
        for what in ("Chance", "Baseline"):  # in sight without scrolling a table sideways
            for cell in page.locator(f"td[data-label={what}]:not(.none)").all():
                box = cell.bounding_box()
                assert box is not None
                assert width > 390 or box["x"] + box["width"] <= width
        assert page.locator("section.probe figure svg").count() >= 8
        assert faults == []
