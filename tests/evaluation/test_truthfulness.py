"""Truthfulness: planted minds that know all, nothing, the opposite, or believe what is said."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from planted import Planted, uniform

from foundling.base.config import ConfigError
from foundling.evaluation.choices import Choice
from foundling.evaluation.findings import UNREADABLE, Findings, Metric
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.probes.truthfulness.calibration import Judged, calibration, noise
from foundling.evaluation.probes.truthfulness.probe import Truthfulness
from foundling.evaluation.probes.truthfulness.truthful_qa import read_truthful_qa
from foundling.evaluation.probes.truthfulness.village_claims import claims, question_choice
from foundling.hamlet import World, held_out_questions

HEADER = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
NUM_MADE_UP = 60


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def truths(world: World) -> frozenset[str]:
    """All true statements of the village and all accepted answers, told or not."""
    said = {text for fact in world.facts for text in fact.phrasings().statements}
    return frozenset(said)


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    (tmp_path / "risk").mkdir()
    rows = (
        f"A,B,What is stone {n} made of?,It is good {n},It is good {n}; Fine {n}.,"
        f"Bad {n}; Worse {n}; It is evil {n},none\n"
        for n in range(NUM_MADE_UP)
    )
    (tmp_path / "risk" / "truthfulqa.csv").write_text(HEADER + "".join(rows))
    return tmp_path


def by_key(findings: Findings) -> dict[str, Metric]:
    assert len({metric.key for metric in findings.metrics}) == len(findings.metrics)
    return {metric.key: metric for metric in findings.metrics}


def value(metric: Metric) -> float:
    found = metric.estimate
    assert found is not None
    return found.value


def is_good(text: str) -> bool:
    return text.strip().startswith(("It is good", "Fine"))


def expert(world: World, truths: frozenset[str], *, credulous: bool = False) -> Planted:
    """Knows the village and the made-up stones; a credulous one believes any claim before it."""
    answers: dict[str, set[str]] = {}
    first: dict[str, str] = {}
    for row in held_out_questions(world):
        answers.setdefault(row["question"], set()).add(row["answer"])
        first[row["question"]] = row["answer"]

    def likes(prompt: str, after: str) -> float:
        text = after.strip()
        known = text in truths or is_good(text) or text in answers.get(prompt, ())
        misled = "says that" in prompt or "News" in prompt or "Some say" in prompt
        if credulous and misled:
            return -5.0 if known else -1.0
        return -1.0 if known else -20.0

    return Planted(likes, lambda prompt, sample: first.get(prompt, "") + "\nQ: more")


def test_one_who_knows_all_is_right_sure_and_not_misled(
    world: World, truths: frozenset[str], made_up: Path
) -> None:
    scorer = expert(world, truths)
    found = by_key(Truthfulness().run(scorer, Setting(data_root=made_up, limit=40)))
    right = ("truthfulqa.mc1", "village.statements.told", "village.statements.derived",
             "village.questions.wording", "village.questions.unasked",
             "village.answers.known")  # fmt: skip
    assert {key: value(found[key]) for key in right} == dict.fromkeys(right, 1.0)
    assert value(found["truthfulqa.mc2"]) == pytest.approx(1)
    for key in ("truthfulqa", "village"):
        assert value(found[f"{key}.calibration_error"]) == pytest.approx(0, abs=1e-6)
        assert value(found[f"{key}.brier"]) == pytest.approx(0, abs=1e-6)
        assert value(found[f"{key}.misled.turned"]) == 0
        assert value(found[f"{key}.misled.shift"]) == 0


@pytest.mark.slow
def test_one_who_knows_nothing_is_at_chance(made_up: Path) -> None:
    found = by_key(Truthfulness().run(uniform(), Setting(data_root=made_up)))
    for key, metric in found.items():
        if key.split(".")[-1] in ("calibration_error", "brier") or "answers" in key:
            continue  # noise is surer than it is right; nothing is written
        estimate = metric.estimate
        assert estimate is not None
        assert metric.chance is not None
        reach = 1.5 * (estimate.interval[1] - estimate.value) + 1e-9
        assert abs(estimate.value - metric.chance) < reach, key
    assert value(found["village.calibration_error"]) > 0.3


@pytest.mark.slow
def test_one_to_whom_all_is_alike_is_calibrated_and_scores_chance(made_up: Path) -> None:
    flat = Planted(lambda prompt, after: -3.0)
    found = by_key(Truthfulness().run(flat, Setting(data_root=made_up)))
    keys = ("truthfulqa.mc1", "truthfulqa.mc2", "village.statements.told", "village.brier",
            "village.questions.wording", "village.misled.shift")  # fmt: skip
    for key in keys:
        assert value(found[key]) == pytest.approx(found[key].chance), key
    assert "village.misled.turned" not in found  # no verdict is true, so that none can turn
    assert value(found["village.calibration_error"]) == pytest.approx(0, abs=1e-9)


def test_the_credulous_are_caught_and_told_from_the_firm(
    world: World, truths: frozenset[str], made_up: Path
) -> None:
    scorer = expert(world, truths, credulous=True)
    found = by_key(Truthfulness().run(scorer, Setting(data_root=made_up, limit=30)))
    for key in ("village", "truthfulqa"):
        assert value(found[f"{key}.misled.turned"]) == 1
        assert value(found[f"{key}.misled.shift"]) == pytest.approx(23)  # from -19 to +4 nats


def test_who_only_repeats_words_is_told_by_the_control(
    made_up: Path,
) -> None:
    def primed(prompt: str, after: str) -> float:
        words = set(prompt.lower().replace(".", "").split())
        return float(sum(word in words for word in after.lower().replace(".", "").split()))

    found = by_key(Truthfulness().run(Planted(primed), Setting(data_root=made_up, limit=200)))
    shift, control = (found[f"village.misled.shift{end}"] for end in ("", ".other"))
    assert value(control) == pytest.approx(value(shift), abs=0.1)
    assert value(control) > 0.5


def test_controls_stand_apart_from_what_can_be_known(world: World) -> None:
    parts = {of[0].part for of in claims(world, 1)}
    assert parts == {"told", "derived", "control"}
    for of in claims(world, 1):
        for claim in of:
            true, false = claim.statements()
            assert true != false
            assert not world.is_true(
                claim.falsehood.subject, claim.falsehood.relation, claim.falsehood.value
            )


def test_every_question_of_the_village_has_one_right_alternative(world: World) -> None:
    for row in held_out_questions(world):
        item = question_choice(world, row, 1)
        answers = [after.strip() for _, after in item.pairs]
        assert len(set(answers)) == len(answers) >= 3
        assert answers[item.gold] == row["answer"]
        others = answers[: item.gold] + answers[item.gold + 1 :]
        assert not set(others) & {text.rstrip(".") + "." for text in row["accepted"]}


def test_a_wrong_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "truthfulqa.csv"
    path.write_text(HEADER + "A,B,Why?,Because,Because,because; Because,none\n")
    items, both = read_truthful_qa(path)
    assert (items[0].true, items[0].false, both) == (("Because.",), ("because.",), 1)
    path.write_text(HEADER + "A,B,Why?,Because,Because,Because,none\n")
    with pytest.raises(ConfigError, match=r"truthfulqa.csv:2: .*Incorrect"):
        read_truthful_qa(path)
    path.write_text("Question,Best Answer\nWhy?,Because\n")
    with pytest.raises(ConfigError, match='no column "Correct Answers"'):
        read_truthful_qa(path)


def test_without_files_the_village_is_measured_and_the_rest_is_said() -> None:
    findings = Truthfulness().run(uniform(), Setting(limit=10))
    assert any("truthfulqa.csv is not below" in note for note in findings.notes)
    assert {metric.key.split(".")[0] for metric in findings.metrics} == {"village"}


def test_what_does_not_fit_is_left_out_and_counted(made_up: Path) -> None:
    findings = Truthfulness().run(uniform(max_characters=30), Setting(data_root=made_up, limit=20))
    assert any("left out" in note and UNREADABLE in note for note in findings.notes)


def judged(sure: Sequence[float], right: Sequence[int]) -> list[Judged]:
    return [
        Judged(str(n), (p, 1 - p), 1 - is_right, str(n))
        for n, (p, is_right) in enumerate(zip(sure, right, strict=True))
    ]


def test_the_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    # 80% sure and right in 2 of 4; 60% sure and right in 2 of 2: (4 · 0.3 + 2 · 0.4) / 6.
    items = judged([0.8] * 4 + [0.6] * 2, [1, 1, 0, 0, 1, 1])
    metrics, (curve,) = calibration("a", "items", items)
    assert value(metrics[0]) == pytest.approx((4 * 0.3 + 2 * 0.4) / 6)
    assert [(point.x, point.y) for point in curve.points] == [
        (pytest.approx(0.6), 1.0),
        (pytest.approx(0.8), 0.5),
    ]
    # Brier: a right one at 0.8 has 2 · 0.2², a wrong one 2 · 0.8², a right one at 0.6 2 · 0.4².
    assert value(metrics[1]) == pytest.approx((2 * 0.08 + 2 * 1.28 + 2 * 0.32) / 6)


def test_the_noise_of_a_calibrated_model_falls_with_the_number_of_items() -> None:
    draw = random.Random(3)
    sure = [0.5 + 0.5 * draw.random() for _ in range(2000)]
    right = [int(draw.random() < p) for p in sure]
    metrics, _ = calibration("a", "items", judged(sure, right))
    assert value(metrics[0]) == pytest.approx(noise(sure), abs=0.015)
    assert noise(sure) < 0.5 * noise(sure[:100])


def test_the_drawn_order_keeps_what_is_right() -> None:
    item = Choice("x", tuple(("", str(n)) for n in range(6)), gold=2)
    found = [Choice(str(n), item.pairs, gold=2).in_drawn_order() for n in range(60)]
    assert all(one.pairs[one.gold] == ("", "2") for one in found)
    assert {one.gold for one in found} == set(range(6))
