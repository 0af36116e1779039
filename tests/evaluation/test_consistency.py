"""Consistency: planted minds that contradict themselves in one known way each, and their rates."""

import json
import zlib
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from planted import Planted, uniform

from foundling.base.config import ConfigError
from foundling.evaluation.choices import Choice
from foundling.evaluation.findings import Findings, Metric
from foundling.evaluation.probes.common_sense.items import village_twins
from foundling.evaluation.probes.consistency.choices import NUM_ORDERS, NUM_SHOTS, example_order
from foundling.evaluation.probes.consistency.facts import ONE_VALUE, samples
from foundling.evaluation.probes.consistency.perturbations import orders
from foundling.evaluation.probes.consistency.probe import Consistency
from foundling.evaluation.probes.consistency.village_questions import AskedFact, asked_facts
from foundling.evaluation.probes.contract import Probe, Setting
from foundling.evaluation.scorer import Question, Scorer
from foundling.hamlet import World
from foundling.hamlet.english import finish

LogProb = Callable[[str, str], float]
PLACES = ("farm", "green", "mill", "kiln", "well")


@cache
def facts() -> list[AskedFact]:
    return asked_facts(World())


def run(log_prob: LogProb, setting: Setting | None = None) -> dict[str, Metric]:
    return by_key(Consistency().run(Planted(log_prob), setting or Setting()))


def by_key(findings: Findings) -> dict[str, Metric]:
    return {metric.key: metric for metric in findings.metrics}


def value(metric: Metric) -> float:
    assert metric.estimate is not None
    return metric.estimate.value


def bench(folder: Path, num_items: int = 60) -> Setting:
    """Made-up files: after "morning" the sun is right, after "evening" the moon."""
    (folder / "bench").mkdir(exist_ok=True)
    copa, wsc, negations, xml = [], [], [], []
    for n in range(num_items):
        place = f"{PLACES[n % len(PLACES)]} {n}"
        choices = [f"the sun at {place}.", f"the moon at {place}."]
        copa.append({"query": f"We saw by this {place}, because", "choices": choices, "gold": 0})
        contexts = [f"Beside the {place} we saw the {light}" for light in ("sun", "moon")]
        wsc += [
            {"context_options": contexts, "continuation": f"in the {time}.", "gold": gold}
            for gold, time in enumerate(("morning", "evening"))
        ]
        negations.append({"statement": f"{place} is up.", "negation": f"{place} is not up."})
        xml += [
            f'<item id="{id}" asks-for="cause" most-plausible-alternative="{gold}">'
            f"<p>It was {time} at {place}.</p><a1>The sun rose.</a1><a2>The moon rose.</a2></item>"
            for id, gold, time in ((n, 1, "morning"), (n + 1000, 2, "evening"))
        ]
    for name, rows in (("copa", copa), ("winograd_wsc", wsc), ("negation", negations)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "bench" / f"{name}.jsonl").write_text(text)
    (folder / "bench" / "balanced_copa.xml").write_text(f"<copa>{''.join(xml)}</copa>")
    return Setting(data_root=folder)


def test_it_is_a_probe() -> None:
    assert isinstance(Consistency(), Probe)


def test_a_model_at_random_is_at_chance_in_everything(tmp_path: Path) -> None:
    def write(prompt: str, sample: int) -> str:
        return str(Random(zlib.crc32(f"{prompt}|{sample}".encode())).random())

    scorer: Scorer = Planted(uniform().log_prob, write)
    found = by_key(Consistency().run(scorer, bench(tmp_path)))
    assert found.pop("samples.contradiction").chance is None
    for key, metric in found.items():
        assert metric.estimate is not None
        assert metric.chance is not None
        # Of thirty intervals at 95% one or two miss; none is missed by four standard errors.
        distance = abs(metric.estimate.value - metric.chance)
        assert distance <= 4 * metric.estimate.standard_error, key
    assert {key.split(".")[0] for key in found} == {
        "paraphrase", "negation", "option_order", "example_order", "mirrored", "typos",
    }  # fmt: skip


def test_equal_scores_are_drawn_and_so_at_chance(tmp_path: Path) -> None:
    for key, metric in run(lambda prompt, after: -1.0, bench(tmp_path)).items():
        if not key.startswith("samples"):
            assert value(metric) == pytest.approx(metric.chance), key


def test_the_same_wrong_answer_to_every_phrasing_is_no_contradiction_of_phrasings() -> None:
    liked = {
        (question, answers[(fact.gold + 1) % len(answers)])
        for fact in facts()
        for question, answers in zip(fact.questions, fact.answers, strict=True)
    }
    found = run(lambda prompt, after: -1.0 if (prompt, after) in liked else -9.0)
    assert value(found["paraphrase.contradiction"]) == 0
    assert value(found["paraphrase.accuracy"]) == 0
    assert found["paraphrase.contradiction"].chance == pytest.approx(0.75, abs=0.02)


def test_another_answer_to_every_phrasing_is_found() -> None:
    liked = {
        (question, answers[place % len(answers)])
        for fact in facts()
        for place, (question, answers) in enumerate(zip(fact.questions, fact.answers, strict=True))
    }
    found = run(lambda prompt, after: -1.0 if (prompt, after) in liked else -9.0)
    differ = value(found["paraphrase.contradiction"])
    assert differ == 1  # no fact has more phrasings than candidates


def test_a_model_blind_to_the_prompt_takes_the_same_side_of_every_mirror(tmp_path: Path) -> None:
    """It likes what it likes: the alternative of COPA, the candidate of a schema."""

    def likes(prompt: str, after: str) -> float:
        alternative = after if after.startswith((" the sun", " the moon")) else ""
        return -(
            zlib.crc32(f"{prompt if not alternative else ''}|{alternative}".encode()) % 999_983
        )

    found = run(likes, bench(tmp_path))
    for name in ("village", "copa", "wsc"):
        assert value(found[f"mirrored.{name}.contradiction"]) == 1
        assert value(found[f"mirrored.{name}.both_right"]) == 0
    assert value(found["typos.copa.50"]) == 0


def test_a_model_that_understands_has_both_sides_right(tmp_path: Path) -> None:
    right = {item.pairs[item.gold] for group in village_twins(World()) for item in group}

    def knows(prompt: str, after: str) -> float:
        if (prompt, after) in right:
            return 0.0
        for light, time in (("sun", "morning"), ("moon", "evening")):
            if light in prompt + after and time in prompt + after:
                return 0.0
        return -9.0

    found = run(knows, bench(tmp_path))
    for name in ("village", "copa", "wsc"):
        assert value(found[f"mirrored.{name}.contradiction"]) == 0
        both = found[f"mirrored.{name}.both_right"]
        assert value(both) == 1
        assert both.chance == 0.25


def test_a_model_that_calls_all_true_contradicts_itself(tmp_path: Path) -> None:
    found = run(lambda prompt, after: -1.0 if after == "True" else -2.0, bench(tmp_path))
    assert value(found["negation.village.contradiction"]) == 1
    assert value(found["negation.village.both_values"]) == 1
    assert value(found["negation.general.contradiction"]) == 1
    assert value(found["negation.village.says_true"]) == 1
    assert value(found["negation.village.accuracy"]) == 0.5


def test_a_model_that_knows_what_is_true_does_not() -> None:
    told = {f"{finish(clause)}." for fact in World().told for clause in fact.clauses}

    def knows(prompt: str, after: str) -> float:
        statement = prompt.removeprefix("True or false? ")
        denied = statement.removeprefix("It is not true that ")
        is_true = (finish(denied) in told) != (statement != denied)
        return -1.0 if after == str(is_true) else -2.0

    found = run(knows)
    assert value(found["negation.village.contradiction"]) == 0
    assert value(found["negation.village.both_values"]) == 0
    assert value(found["negation.village.says_true"]) == 0.5
    assert value(found["negation.village.accuracy"]) == 1


def test_values_exclude_each_other_where_it_is_said() -> None:
    world = World()
    for fact in world.facts:
        if fact.relation in ONE_VALUE:
            assert len(world.query(fact.subject, fact.relation)) == 1


@pytest.mark.parametrize("chats", [False, True])
def test_always_the_first_option_is_a_position_bias(tmp_path: Path, chats: bool) -> None:
    first = Planted(lambda prompt, after: -1.0 if after.strip() == "A" else -2.0, chats=chats)
    found = by_key(Consistency().run(first, bench(tmp_path)))
    for name in ("village", "copa"):
        assert value(found[f"option_order.{name}.contradiction"]) == 1
        assert value(found[f"option_order.{name}.same_letter"]) == 1
    assert value(found["option_order.copa.accuracy"]) == 0.5


def test_the_same_content_in_both_orders_is_none(tmp_path: Path) -> None:
    def reads(prompt: str, after: str) -> float:
        options = dict(line.split(") ", 1) for line in prompt.splitlines() if line[1:3] == ") ")
        return -(zlib.crc32(options.get(after.strip(), "").encode()) % 999_983)

    found = run(reads, bench(tmp_path))
    for name in ("village", "copa"):
        assert value(found[f"option_order.{name}.contradiction"]) == 0
        assert value(found[f"option_order.{name}.same_letter"]) <= 0.01


def test_the_order_of_examples_counts_where_the_last_one_decides() -> None:
    """The mind turns round behind one of the examples; how often is known from the orders."""
    items = [
        Choice(f"{n}", ((f"Day {n} because", " it rains."), (f"Day {n} because", " it dries.")), 0)
        for n in range(30)
    ]
    seen: set[str] = set()

    def day(shot: str) -> int:
        return int(shot.split()[1])

    def turns(prompt: str, after: str) -> float:
        *shots, _ = prompt.split("\n\n")
        seen.add("\n\n".join(shots))
        is_last = shots[-1] == max(shots, key=day)
        return -1.0 if after.endswith("rains.") == is_last else -2.0

    findings = Findings()
    example_order(Planted(turns), items, "days", 1, findings)
    assert len(seen) == NUM_ORDERS
    assert len({frozenset(prompt.split("\n\n")) for prompt in seen}) == 1
    (metric,) = findings.metrics
    shots = next(iter(seen)).split("\n\n")
    turned = [prompt.endswith(max(shots, key=day)) for prompt in seen]
    pairs = list(combinations(turned, 2))
    expected = sum(one != other for one, other in pairs) / len(pairs)
    assert 0 < expected < 1
    assert value(metric) == pytest.approx(expected)
    assert len(metric.outcomes) == 30 - NUM_SHOTS
    assert len(orders(NUM_SHOTS, NUM_ORDERS, 1)) == NUM_ORDERS

    findings = Findings()
    last = Planted(lambda prompt, after: -(zlib.crc32((prompt.split("\n\n")[-1] + after).encode())))
    example_order(last, items, "days", 1, findings)
    assert value(findings.metrics[0]) == 0


def test_a_model_that_knows_sentences_by_heart_is_thrown_by_typing_errors(tmp_path: Path) -> None:
    setting = bench(tmp_path)
    known = {f"We saw by this {place} {n}, because" for n in range(60)
             for place in PLACES}  # fmt: skip

    def by_heart(prompt: str, after: str) -> float:
        return -1.0 if ("sun" in after) == (prompt in known) else -2.0

    findings = Consistency().run(Planted(by_heart), setting)
    found = by_key(findings)
    assert value(found["typos.copa.10"]) == value(found["typos.copa.50"]) == 1
    (curve,) = [curve for curve in findings.curves if curve.name == "copa"]
    assert [(point.x, point.y) for point in curve.points] == [(0.1, 1), (0.5, 1)]


def test_samples_are_compared_two_by_two_after_normalisation() -> None:
    def rate(write: Callable[[str, int], str]) -> Metric:
        findings = Findings()
        samples(Planted(lambda p, a: 0.0, write), facts()[:5], 4, 1, findings)
        return findings.metrics[0]

    assert value(rate(lambda prompt, sample: ("Yes.", " yes")[sample % 2])) == 0
    assert value(rate(lambda prompt, sample: "yn"[sample % 2])) == pytest.approx(4 / 6)
    assert value(rate(lambda prompt, sample: f"{sample}")) == 1
    findings = Findings()
    samples(uniform(), facts()[:5], 1, 1, findings)
    assert findings.notes == ["not measured: self-agreement needs two samples or more"]


def test_every_candidate_can_answer_every_phrasing() -> None:
    world = World()
    assert len(facts()) > 400
    for asked in facts():
        assert not asked.fact.held_out
        assert asked.falsehood.value not in {
            fact.value for fact in world.query(asked.fact.subject, asked.fact.relation)
        }
        own = dict(asked.fact.phrasings().questions)
        for question, answers in zip(asked.questions, asked.answers, strict=True):
            assert len(set(answers)) == len(answers) >= 2
            assert own[question] == answers[asked.gold]
        assert isinstance(asked.choice().pairs[0][0], Question)


def test_limits_hold_and_what_does_not_fit_or_is_not_there_is_said(tmp_path: Path) -> None:
    found = run(lambda prompt, after: -1.0, Setting(data_root=bench(tmp_path).data_root, limit=6))
    assert len(found["mirrored.wsc.contradiction"].outcomes) == 6
    assert len(found["option_order.village.contradiction"].outcomes) == 6
    short = Consistency().run(Planted(lambda p, a: -1.0, max_characters=70), Setting())
    assert any("too long for the model's context" in note for note in short.notes)
    for name in ("negation.jsonl", "copa.jsonl", "balanced_copa.xml", "winograd_wsc.jsonl"):
        assert f"not measured: bench/{name} is not below --data-root" in short.notes


def test_a_broken_file_of_negations_is_a_fault_with_its_line(tmp_path: Path) -> None:
    setting = bench(tmp_path, 5)
    path = tmp_path / "bench" / "negation.jsonl"
    for row, said in (
        ('{"statement": "x"}', "has statement; expected statement and negation"),
        ('{"statement": "x", "negation": " "}', "negation = ' ': expected a text"),
    ):
        path.write_text('{"statement": "x.", "negation": "not x."}\n' + row + "\n")
        with pytest.raises(ConfigError, match=rf"negation\.jsonl:2: {said}"):
            Consistency().run(uniform(), setting)
