"""Learning in context: what learns from its prompt is told from what knows, guesses or repeats."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from planted import Planted, text, uniform

from foundling.base.config import ConfigError
from foundling.evaluation.few_shot import Shot
from foundling.evaluation.findings import Curve, Findings, Metric
from foundling.evaluation.probes.contract import Probe, Setting
from foundling.evaluation.probes.in_context.curves import LABELS, OTHERS, REAL
from foundling.evaluation.probes.in_context.probe import InContext
from foundling.evaluation.scorer import Pair, Scored
from foundling.evaluation.tasks import key_of
from foundling.hamlet import World
from foundling.hamlet.games import RELATIONS
from foundling.hamlet.pair_lists import MADE_UP, word_groups

SHOTS = (0, 4)
GROUP = {word: group for group, words in word_groups().items() for word in words}
WORLD = World()
VALUES = {(f.subject, f.relation): f.value for f in WORLD.facts if f.relation in RELATIONS}
Mind = Callable[[str, str], float]


# ------------------------------------------------------------------ planted minds


def learns_names(prompt: str, after: str) -> float:
    """As likely as words of the asked one's group stand beside this name."""
    words = re.findall(r"\w+", prompt)
    *before, asked = [place for place, word in enumerate(words) if word in GROUP]
    alike = [place for place in before if GROUP[words[place]] == GROUP[words[asked]]]
    named = [next((w for w in words[place + 1 :] if w in MADE_UP), "") for place in alike]
    return named.count(after.strip()) - 100.0


PEOPLE = "|".join(person.name for person in WORLD.people)
ENTRY = re.compile(
    rf"\b({PEOPLE})(?: A|, answer)?(?: →|:| =| is| means| -|) "
    rf"({'|'.join(sorted(map(re.escape, set(VALUES.values())), key=len, reverse=True))})\b"
)


@lru_cache
def relations_in(prompt: str) -> Counter[str]:
    pairs = ENTRY.findall(prompt)
    return Counter(r for s, v in pairs for r in RELATIONS if VALUES.get((s, r)) == v)


def recognises(prompt: str, after: str) -> float:
    """As likely as the relation, in which it is true of the one asked, is that of the list."""
    asked = re.findall(rf"\b({PEOPLE})\b", prompt)[-1]
    found = relations_in(prompt)
    return max(found[r] for r in RELATIONS if VALUES.get((asked, r)) == after.strip()) - 100.0


def repeats_the_last(prompt: str, after: str) -> float:
    return float(prompt.rfind(after.strip())) - 1e6


def repeats_the_first(prompt: str, after: str) -> float:
    found = prompt.find(after.strip())
    return -1e6 if found < 0 else -float(found)


def learns_nouns(prompt: str, after: str) -> float:
    """As likely as the asked noun was answered so."""
    *shown, asked = re.findall(r"The (\w+) \d+\nAnswer:(?: (\w+))?", prompt)
    return sum(one == (asked[0], after.strip()) for one in shown) - 100.0


class Recorder(Planted):
    """Keeps what it is asked."""

    def __init__(self, log_prob: Mind, **options: Any) -> None:
        super().__init__(log_prob, **options)
        self.asked: list[tuple[str, str]] = []

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        self.asked += [(text(prompt), after) for prompt, after in pairs]
        return super().score(pairs)


class Repeating(Planted):
    """Writes a word that it has read before, and none that it has not."""

    def score(self, pairs: Sequence[Pair]) -> list[Scored | None]:
        found = []
        for (prompt, after), scored in zip(pairs, super().score(pairs), strict=True):
            is_greedy = f"{after}\n" in text(prompt)
            found.append(scored and Scored(-1.0 if is_greedy else -3.0, 1, is_greedy))
        return found


# ------------------------------------------------------------------ reading findings


def measured(scorer: Planted, **options: Any) -> Findings:
    shared = {key: options.pop(key) for key in Setting.model_fields if key in options}
    probe = InContext(**{"shots": SHOTS, "draws": 2, **options})
    return probe.run(scorer, Setting(**{"limit": 20, **shared}))


def metrics(findings: Findings) -> dict[str, Metric]:
    found = {metric.key: metric for metric in findings.metrics}
    assert len(found) == len(findings.metrics)
    return found


def value(findings: Findings, key: str) -> float:
    found = metrics(findings)[key].estimate
    assert found is not None
    return found.value


def interval(findings: Findings, key: str) -> tuple[float, float]:
    found = metrics(findings)[key].estimate
    assert found is not None
    return found.interval


def curve(findings: Findings, figure: str, name: str = REAL) -> Curve:
    (found,) = (c for c in findings.curves if (c.figure, c.name) == (figure, name))
    return found


def heights(findings: Findings, figure: str, name: str = REAL) -> dict[float, float]:
    return {point.x: point.y for point in curve(findings, figure, name).points}


# ------------------------------------------------------------------ the games


@pytest.mark.parametrize(
    ("task", "title", "mind", "chance"),
    [
        ("names", "Games of names", learns_names, 1 / 2),
        ("registers", "Registers of the village", recognises, 1 / 3),
    ],
)
def test_a_mind_that_learns_from_its_examples_is_seen(
    task: str, title: str, mind: Mind, chance: float
) -> None:
    def only_here(prompt: str, after: str) -> float:
        try:
            return mind(prompt, after)
        except (IndexError, ValueError):  # the other game
            return -1.0

    found = measured(Planted(only_here), limit=60, shots=(0, 1, 2, 4, 16))
    assert isinstance(InContext(), Probe)
    assert value(found, f"{task}.most") == 1
    assert value(found, f"{task}.none") == pytest.approx(chance)
    assert metrics(found)[f"{task}.most"].chance == pytest.approx(chance)
    assert interval(found, f"{task}.gain")[0] > 0
    assert value(found, f"{task}.gain") == pytest.approx(1 - chance)
    assert interval(found, f"{task}.over_labels")[0] > 0
    assert interval(found, f"{task}.over_others")[0] > 0
    right = heights(found, title)
    assert right[0] == pytest.approx(chance)
    assert right[16] == 1
    assert sorted(right) == [0, 1, 2, 4, 16]
    assert heights(found, title, LABELS)[16] < 0.8
    assert heights(found, title, OTHERS)[0] == right[0]
    headline = {metric.key for metric in found.metrics if metric.headline}
    assert {f"{task}.gain", f"{task}.over_labels"} <= headline


def test_guessing_has_chance_and_no_gain() -> None:
    """The 95% intervals of noise hold 0 about as often as they say."""
    held, of = 0, 0
    for seed in range(6):
        found = measured(uniform(), limit=40, seed=seed, shots=(0, 2))
        for task in ("names", "registers"):
            for key in ("gain", "over_labels", "over_others"):
                low, high = interval(found, f"{task}.{key}")
                held, of = held + (low <= 0 <= high), of + 1
            for key in ("none", "most"):
                low, high = interval(found, f"{task}.{key}")
                chance = metrics(found)[f"{task}.{key}"].chance
                assert chance is not None
                held, of = held + (low <= chance <= high), of + 1
    assert of == 60
    assert held >= 52


@pytest.mark.parametrize("mind", [repeats_the_last, repeats_the_first])
def test_repeating_a_name_is_no_learning(mind: Mind) -> None:
    found = measured(Planted(mind), limit=120, shots=(0, 4))
    for key in ("gain", "over_labels"):
        low, high = interval(found, f"names.{key}")
        assert low <= 0 <= high
        assert high - low < 0.4


def test_seeds_draw_and_the_same_seed_repeats() -> None:
    first, again, other = (measured(uniform(), limit=20, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert metrics(first)["names.none"].outcomes != metrics(other)["names.none"].outcomes


def test_the_rule_without_a_model_is_near_chance_in_games() -> None:
    found = metrics(measured(uniform(), limit=200, shots=(0,)))
    for task, chance in (("names", 1 / 2), ("registers", 1 / 3)):
        baseline = found[f"{task}.none"].baseline
        assert baseline is not None
        assert chance <= baseline.value < chance + 0.12
        assert f"{task}.most" not in found
        assert f"{task}.gain" not in found


# ------------------------------------------------------------------ tasks of one's own


def csv(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{row},{label}\n" for row, label in rows))
    return path


def nouns(numbers: range) -> list[tuple[str, str]]:
    return [(f"The {('mill', 'pond')[n % 2]} {n}", ("yes", "no")[n % 2]) for n in numbers]


def folder(path: Path, examples: range = range(12), test: range = range(100, 120)) -> Path:
    path.mkdir(exist_ok=True)
    csv(path / "examples.csv", nouns(examples))
    csv(path / "test.csv", nouns(test))
    return path


def nouns_only(mind: Mind) -> Mind:
    """Indifferent to all other tasks."""

    def guarded(prompt: str, after: str) -> float:
        return mind(prompt, after) if re.search(r"The \w+ \d+\nAnswer:$", prompt) else -1.0

    return guarded


def lines(findings: Findings, what: str) -> list[str]:
    return [note for note in findings.notes if what in note]


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


def fronts(asked: Sequence[tuple[str, str]]) -> Iterator[tuple[list[str], str]]:
    """The examples and the last line of prompts of whole texts, where texts are nouns."""
    for prompt, _ in asked:
        *shown, last = prompt.split("\n\n")
        if re.match(r"\s*The\s+\w+", last, re.I):
            yield shown, last.partition("\nAnswer:")[0]


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


# ------------------------------------------------------------------ whole prompts


def jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def completions(numbers: range) -> list[dict[str, str]]:
    return [{"context": f"Ann {n} went to the", "continuation": "mill"} for n in numbers]


def test_a_completion_is_right_where_each_of_its_tokens_is_the_likeliest(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    jsonl(tmp_path / "bench" / "lambada_openai.jsonl", completions(range(12)))
    found = measured(Repeating(lambda prompt, after: -1.0), data_root=tmp_path)
    key = "lambada_openai"
    assert [value(found, f"{key}.{which}") for which in ("none", "most", "gain")] == [0, 1, 1]
    assert metrics(found)[f"{key}.none"].chance == 0
    assert value(found, f"{key}.nats") == 2
    assert metrics(found)[f"{key}.nats"].unit == "number"
    # All examples have one completion, so those by chance are the right ones.
    assert value(found, f"{key}.over_labels") == 0
    assert value(found, f"{key}.over_others") == 1
    assert [note for note in found.notes if note.startswith("not measured: bench/")] == [
        f"not measured: bench/{name}.jsonl is not below --data-root"
        for name in ("copa", "piqa", "winograd_wsc")
    ]


@pytest.mark.parametrize(
    ("row", "has_choices"),
    [
        (
            {"query": "The jug {} broke because", "choices": ["it fell.", "it sang."], "gold": 0},
            True,
        ),
        ({"context_options": ["Tom {}", "Bo {}"], "continuation": "ran.", "gold": 1}, True),
        ({"context": "The cat {} sat on the", "continuation": "mat"}, False),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_folders_and_files_of_each_form(
    tmp_path: Path, row: Mapping[str, Any], has_choices: bool, apart: bool
) -> None:
    rows = [json.loads(json.dumps(row).replace("{}", str(n))) for n in range(10)]
    path = tmp_path / "own"
    path.mkdir()
    jsonl(path / "examples.jsonl", rows[:6] if apart else rows)
    if apart:
        jsonl(path / "test.jsonl", rows[6:])
    key = "own"
    if not apart:
        assert len(metrics(measured(uniform(), tasks=(path,)))["own.none"].outcomes) == 10
        path, key = path / "examples.jsonl", "examples"
    found = metrics(measured(uniform(), tasks=(path,)))
    assert len(found[f"{key}.most"].outcomes) == (4 if apart else 10)
    assert found[f"{key}.none"].chance == (0.5 if has_choices else 0)
    assert (f"{key}.nats" in found) is not has_choices


def test_the_limit_holds_for_whole_prompts_too(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "own.jsonl", completions(range(30)))
    found = metrics(measured(uniform(), tasks=(path,), limit=7))
    assert len(found["own.none"].outcomes) == len(found["names.none"].outcomes) == 7


def test_tasks_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = (folder(tmp_path / "water"), folder(tmp_path / "b" / "water"))
    found = metrics(measured(uniform(), tasks=(*paths, folder(tmp_path / "names"))))
    assert {f"{path}.none" for path in paths} <= set(found)
    assert {"names.none", f"{tmp_path / 'names'}.none"} <= set(found)


def test_a_single_game_has_another_task_for_its_control() -> None:
    one = Recorder(lambda prompt, after: -1.0)
    measured(one, limit=1, shots=(0, 4))
    strange = {
        len(set(re.findall(r"\w+", prompt)) & set(MADE_UP)) > 0
        for prompt, _ in one.asked
        if re.search(rf"\b({PEOPLE})\W+(A:|is|means|answer:)?$", prompt)
    }
    assert strange == {False, True}


def test_another_task_has_as_many_examples(tmp_path: Path) -> None:
    """The next task has 2 alone; the control takes its examples from one that has 4."""
    one = Recorder(lambda prompt, after: -1.0)
    tasks = (folder(tmp_path / "water"), folder(tmp_path / "few", range(2), range(200, 220)))
    found = measured(one, tasks=tasks, shots=(0, 4))
    assert sorted(heights(found, "water", OTHERS)) == [0, 4]
    shown = {len(some) for some, last in fronts(one.asked) if re.match(r"The \w+ 1\d\d", last)}
    assert shown == {0, 4}


# ------------------------------------------------------------------ task.toml and faults


def test_task_toml_says_how_texts_are_put(tmp_path: Path) -> None:
    path = tmp_path / "own"
    path.mkdir()
    rows = "".join(f"{('1', '0')[n % 2]};The {n};x\n" for n in range(24)).replace(";", ",")
    (path / "examples.csv").write_text("mark,said,rest\n" + rows)
    (path / "task.toml").write_text(
        'template = "Is {text} good? {answer}"\ntext = "said"\nanswer = "mark"\n'
        'separator = " | "\n[labels]\n1 = "good"\n0 = "bad"\n'
    )
    one = Recorder(lambda prompt, after: -1.0)
    measured(one, tasks=(path,), shots=(0, 2))
    asked = [(p, after) for p, after in one.asked if p.startswith("Is The")]
    assert {after for _, after in asked} == {" good", " bad"}
    assert any(re.fullmatch(r"(Is The \d+ good\? (good|bad) \| ){2}Is The \d+ good\?", p)
               for p, _ in asked)  # fmt: skip


def none(path: Path) -> None:
    csv(path / "test.csv", nouns(range(4)))


def two(path: Path) -> None:
    folder(path)
    jsonl(path / "examples.jsonl", completions(range(4)))


def two_tests(path: Path) -> None:
    folder(path)
    jsonl(path / "test.jsonl", completions(range(4)))


def beside(path: Path) -> None:
    jsonl(path / "examples.jsonl", completions(range(4)))
    (path / "task.toml").write_text("")


def unknown(path: Path) -> None:
    folder(path)
    (path / "task.toml").write_text('seperator = "x"\n')


def no_template(path: Path) -> None:
    folder(path)
    (path / "task.toml").write_text('template = "x"\n')


def empty(path: Path) -> None:
    (path / "examples.jsonl").write_text("")


def empty_csv(path: Path) -> None:
    (path / "examples.csv").write_text("")


def empty_test(path: Path) -> None:
    jsonl(path / "examples.jsonl", completions(range(4)))
    (path / "test.jsonl").write_text("")


def other_form(path: Path) -> None:
    jsonl(path / "examples.jsonl", [*completions(range(2)), {"context": "a"}])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (none, r"own: expected one file examples\.jsonl, \.csv or \.tsv; found none"),
        (two, r"one file examples.*found examples\.csv, examples\.jsonl"),
        (two_tests, r"one file test.*found test\.csv, test\.jsonl"),
        (beside, r"task\.toml says how labelled texts.*examples\.jsonl holds whole prompts"),
        (unknown, r'task\.seperator.*Did you mean "separator"'),
        (no_template, r'template = "x": it must hold \{text\} once'),
        (empty, r"examples\.jsonl: "),
        (empty_csv, r"examples\.csv: "),
        (empty_test, r"own.*holds no item|test\.jsonl: "),
        (other_form, r"examples\.jsonl:3: has context; expected one of"),
    ],
)
def test_faults_of_a_folder_are_named(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "own"
    path.mkdir()
    make(path)
    with pytest.raises(ConfigError, match=said):
        measured(uniform(), tasks=(path,))


def test_a_missing_task_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder of a task"):
        measured(uniform(), tasks=(tmp_path / "nowhere",))
