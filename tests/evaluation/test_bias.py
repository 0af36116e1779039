"""Bias: planted minds that stereotype, that do the opposite, and that know nothing."""

from pathlib import Path

import pytest
from planted import Planted, uniform

from foundling.base.config import ConfigError
from foundling.evaluation.findings import Metric
from foundling.evaluation.probes.bias import Bias
from foundling.evaluation.probes.contract import Setting

HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations\n"
NUM_PAIRS = 200


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Made-up people: the Blue ones are said to be lazy, the Green ones are not."""
    (tmp_path / "risk").mkdir()
    rows = (
        f'{n},"The Blue cook, number {n}, is lazy.","The Green cook, number {n}, is lazy.",'
        f"{'stereo' if n % 4 else 'antistereo'},{'colour' if n % 2 else 'trade'},[]\n"
        for n in range(NUM_PAIRS)
    )
    (tmp_path / "risk" / "crows_pairs.csv").write_text(HEADER + "".join(rows))
    return tmp_path


def metrics(scorer: Planted, root: Path, limit: int | None = None) -> dict[str, Metric]:
    findings = Bias().run(scorer, Setting(data_root=root, limit=limit))
    assert any("Blodgett" in note for note in findings.notes)
    return {metric.key: metric for metric in findings.metrics}


def value(metric: Metric) -> float:
    found = metric.estimate
    assert found is not None
    return found.value


def test_one_who_stereotypes_is_caught_and_the_opposite_too(root: Path) -> None:
    biased = Planted(lambda prompt, after: -1.0 if "Blue" in after else -3.5)
    found = metrics(biased, root)
    assert value(found["crows_pairs.stereotype"]) == 1
    assert value(found["crows_pairs.difference"]) == 2.5
    kinds = {"colour", "trade", "stereo", "antistereo"}
    assert {key.split(".")[-1] for key in found} >= kinds
    assert all(value(found[f"crows_pairs.stereotype.{kind}"]) == 1 for kind in kinds)
    contrary = Planted(lambda prompt, after: -1.0 if "Green" in after else -3.5)
    assert value(metrics(contrary, root)["crows_pairs.stereotype"]) == 0


def test_the_indifferent_and_the_ignorant_are_at_one_half(root: Path) -> None:
    flat = metrics(Planted(lambda prompt, after: -4.0), root)
    assert value(flat["crows_pairs.stereotype"]) == 0.5
    assert value(flat["crows_pairs.difference"]) == 0
    estimate = metrics(uniform(), root)["crows_pairs.stereotype"].estimate
    assert estimate is not None
    assert estimate.interval[0] < 0.5 < estimate.interval[1]


def test_a_taste_for_short_sentences_is_told_by_the_baseline(root: Path) -> None:
    found = metrics(Planted(lambda prompt, after: -float(len(after))), root)
    metric = found["crows_pairs.stereotype"]
    assert metric.baseline is not None
    assert value(metric) == metric.baseline.value == 1  # "Blue" is shorter than "Green"
    assert "crows_pairs.stereotype.same_length" not in found


def test_sentences_are_scored_whole_behind_nothing(root: Path) -> None:
    seen: set[str] = set()

    def record(prompt: str, after: str) -> float:
        seen.add(prompt)
        assert after.startswith("The ")
        return -1.0

    assert metrics(Planted(record), root, limit=7)["crows_pairs.stereotype"].outcomes
    assert seen == {""}


def test_long_pairs_are_left_out_and_a_missing_file_is_said(root: Path, tmp_path: Path) -> None:
    findings = Bias().run(uniform(max_characters=33), Setting(data_root=root))
    assert any("left out" in note for note in findings.notes)
    findings = Bias().run(uniform(), Setting(data_root=tmp_path / "elsewhere"))
    assert findings.metrics == []
    assert "crows_pairs.csv is not below" in findings.notes[0]


def test_a_broken_file_is_named_with_its_line(root: Path) -> None:
    path = root / "risk" / "crows_pairs.csv"
    path.write_text(HEADER + '0,"A.","",stereo,trade,[]\n')
    with pytest.raises(ConfigError, match=r"crows_pairs.csv:2: sent_less = ''"):
        Bias().run(uniform(), Setting(data_root=root))
    path.write_text("sent_more\nA.\n")
    with pytest.raises(ConfigError, match='no column "sent_less"'):
        Bias().run(uniform(), Setting(data_root=root))
