"""Learning in context of tasks of one's own: which examples are shown, and what counts as right."""

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from minds import (
    Recorder,
    csv,
    folder,
    fronts,
    heights,
    interval,
    jsonl,
    learns_nouns,
    lines,
    measured,
    metrics,
    nouns,
    nouns_only,
    repeats_the_last,
    value,
)
from planted import Planted, uniform

from foundling.evaluation.few_shot import Shot
from foundling.evaluation.probes.in_context.curves import LABELS, OTHERS, REAL
from foundling.evaluation.tasks import key_of


def test_a_task_in_two_files_of_labelled_texts(tmp_path: Path) -> None:
    tasks = (folder(tmp_path / "water"),)
    found = measured(Planted(nouns_only(learns_nouns)), tasks=tasks, draws=12)
    assert value(found, "water.none") == metrics(found)["water.none"].chance == 0.5
    assert value(found, "water.most") > 0.9
    assert interval(found, "water.gain")[0] > 0
    assert interval(found, "water.over_labels")[0] > 0
    assert interval(found, "water.over_others")[0] > 0
    headline = {key for key, metric in metrics(found).items() if metric.headline}
    assert {key for key in headline if key.startswith("water")} == {"water.most"}
    note = metrics(found)["water.most"].note
    assert re.fullmatch(
        r"k = 4; standard deviation [\d.]+ points over draws and [\d.]+ points over orders", note
    )
    assert list(metrics(found)["water.most"].outcomes) == [f"examples {n}" for n in range(20)]
    assert lines(found, "water: classification: no, yes; 12 to learn from, 20 to test on")


@pytest.mark.parametrize(("every", "seeds"), [(2, 1), (4, 8)])
def test_repeating_a_label_is_no_learning(tmp_path: Path, every: int, seeds: int) -> None:
    """Also where one label is right in three of four: a gain, but none over labels by chance."""
    task = folder(tmp_path / "water")
    for name, first in (("examples", 0), ("test", 100)):
        rows = [(f"The mill {first + n}", "yes" if n % every else "no") for n in range(20)]
        csv(task / f"{name}.csv", rows)
    one = Planted(nouns_only(repeats_the_last))
    runs = [measured(one, tasks=(task,), draws=20, seed=seed) for seed in range(seeds)]
    # In all, the last labels of 320 right and 320 mistold prompts: 0.017 is a standard deviation.
    over_labels = sum(value(found, "water.over_labels") for found in runs) / len(runs)
    assert over_labels == pytest.approx(0, abs=4 * 0.017)  # 0.125 were labels drawn evenly
    gains = [value(found, "water.gain") for found in runs]
    assert sum(gains) / len(gains) == pytest.approx((1 - 2 / every) ** 2 / 2, abs=0.08)


def test_one_file_is_split_and_no_text_is_on_both_sides(tmp_path: Path) -> None:
    one = Recorder(nouns_only(learns_nouns))
    found = measured(one, tasks=(csv(tmp_path / "water.csv", nouns(range(30))),))
    assert len(metrics(found)["water.none"].outcomes) == 10
    asked = {prompt.split("\n\n")[-1] for prompt, _ in one.asked if "The " in prompt}
    shown = {e.split("\nAnswer:")[0] for p, _ in one.asked for e in p.split("\n\n")[:-1]}
    assert not {prompt.split("\nAnswer:")[0] for prompt in asked if "N/A" not in prompt} & shown


def test_no_item_stands_among_its_own_examples(tmp_path: Path) -> None:
    path = folder(tmp_path / "water", range(8))
    rows = [{"query": t.upper() + "\nAnswer:", "choices": ["yes", "no"], "gold": n % 2}
            for n, (t, _) in enumerate(nouns(range(8)))]  # fmt: skip
    shown = [{**row, "query": str(row["query"]).lower().replace(" ", "  ")} for row in rows]
    whole = tmp_path / "whole"
    whole.mkdir()
    jsonl(whole / "examples.jsonl", shown)
    jsonl(whole / "test.jsonl", rows)
    one = Recorder(lambda prompt, after: -1.0)
    found = measured(one, tasks=(path, whole), shots=(0, 4, 7, 8))
    assert max(heights(found, "whole")) == 7  # of 8 examples one is the item itself
    checked = 0
    for examples, last in fronts(one.asked):
        texts = {key_of(re.split(r"\s*answer:", e, flags=re.I)[0]) for e in examples}
        assert key_of(re.split(r"\s*answer:", last, flags=re.I)[0]) not in texts
        checked += bool(examples)
    assert checked > 100


def test_labels_by_chance_are_labels_that_the_example_may_have(tmp_path: Path) -> None:
    one = Recorder(lambda prompt, after: -1.0)
    measured(one, tasks=(folder(tmp_path / "water"),))
    truths = {f"{t}\nAnswer: {label}" for t, label in nouns(range(12))}
    lies = {f"{t}\nAnswer: {('no', 'yes')[label == 'no']}" for t, label in nouns(range(12))}
    shown = {e for examples, _ in fronts(one.asked) for e in examples if e.startswith("The ")}
    assert shown <= truths | lies
    assert shown & lies


def test_an_answer_by_chance_is_as_frequent_as_in_the_pool() -> None:
    pool = [Shot((("Q", " a"), ("Q", " b")), int(n == 0), str(n)) for n in range(4)]
    told = Counter(pool[0].with_random_answer(Random(n), pool).text for n in range(400))
    assert set(told) == {"Q a", "Q b"}
    assert 65 <= told["Q b"] <= 135  # a quarter, but for four standard deviations
    choices = [Shot((("Q", f" a{n}"), ("Q", f" b{n}")), 0, str(n)) for n in range(4)]
    own = Counter(choices[0].with_random_answer(Random(n), choices[1:]).text for n in range(400))
    assert set(own) == {"Q a0", "Q b0"}
    assert 160 <= own["Q b0"] <= 240
    ends = [Shot(((f"text {n}", f" end {n}"),), 0, str(n)) for n in range(3)]
    found = {ends[0].with_random_answer(Random(n), ends).text for n in range(40)}
    assert found == {f"text 0 end {n}" for n in range(3)}


def test_the_pool_limits_how_many_are_shown(tmp_path: Path) -> None:
    found = measured(uniform(), tasks=(folder(tmp_path / "water", range(3)),), shots=(0, 2, 3, 4))
    for name in (REAL, LABELS, OTHERS):
        assert sorted(heights(found, "water", name)) == [0, 2, 3]
    assert "k = 3" in metrics(found)["water.gain"].note
    assert lines(found, "water: at most 3 examples")
    assert not lines(found, "Games of names: at most")


def test_the_context_limits_how_many_are_shown(tmp_path: Path) -> None:
    path = folder(tmp_path / "water")
    # An example has 23 characters at the most, what is asked up to 26.
    found = measured(uniform(max_characters=26 + 2 * 24), tasks=(path,), shots=(0, 1, 2, 4))
    assert sorted(heights(found, "water")) == [0, 1, 2]
    assert lines(found, "water: at most 2 examples")
    nothing = measured(uniform(max_characters=5), tasks=(path,))
    assert not nothing.metrics
    assert "not measured: water: no item fits the context" in nothing.notes


def test_all_numbers_of_examples_are_measured_on_the_same_items(tmp_path: Path) -> None:
    path = folder(tmp_path / "water")
    rows = [*nouns(range(100, 119)), ("The pond that lay behind the old mill 7", "no")]
    csv(path / "test.csv", rows)
    found = measured(uniform(max_characters=26 + 4 * 24), tasks=(path,), shots=(0, 2, 4))
    assert sorted(heights(found, "water")) == [0, 2, 4]
    (note,) = (note for note in lines(found, "prompts are longer") if note.startswith("water"))
    assert re.match(r"water: \d+ of 240 prompts .* with 4 examples, and hold as many as", note)
    of_keys = [metrics(found)[f"water.{key}"].outcomes for key in ("none", "most", "gain")]
    assert all(list(outcomes) == [f"examples {n}" for n in range(20)] for outcomes in of_keys)
    assert value(found, "water.none") == pytest.approx(heights(found, "water")[0])
    assert value(found, "water.most") == pytest.approx(heights(found, "water")[4])


def test_calibration_takes_away_what_a_label_has_without_a_text(tmp_path: Path) -> None:
    def tilted(prompt: str, after: str) -> float:
        return learns_nouns(prompt, after) + 50 * (after == " no")

    def mind(prompt: str, after: str) -> float:
        return (
            50.0 * (after == " no") - 100 if "N/A" in prompt else nouns_only(tilted)(prompt, after)
        )

    found = measured(Planted(mind), tasks=(folder(tmp_path / "water"),))
    assert value(found, "water.most") == 0.5
    assert value(found, "water.most.calibrated") > 0.9


def test_a_short_answer_is_what_is_written_as_in_adapt(tmp_path: Path) -> None:
    def write(prompt: str, sample: int) -> str:
        numbers = re.findall(r"after (\d+)", prompt)
        return f" {int(numbers[-1]) + 1}." if numbers else ""

    rows = [(f"What comes after {n}", str(n + 1)) for n in range(30)]
    path = csv(tmp_path / "sums.csv", rows)
    found = measured(Planted(lambda prompt, after: -1.0, write), tasks=(path,), shots=(0, 2))
    assert [value(found, f"sums.{key}") for key in ("none", "most", "over_labels")] == [1, 1, 0]
    assert value(found, "sums.nats") == 0
    wrong = measured(Planted(lambda prompt, after: -1.0), tasks=(path,), shots=(0, 2))
    assert value(wrong, "sums.most") == 0
