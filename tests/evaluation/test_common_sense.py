"""Common sense: planted minds reach what they must, twins are one group, faults are said."""

import json
from pathlib import Path

import pytest
from planted import Planted, knowing, uniform

from foundling.base.config import ConfigError
from foundling.evaluation.choices import Choice, accuracy, choose, clustered
from foundling.evaluation.findings import UNREADABLE, Findings, Metric
from foundling.evaluation.probes.common_sense.probe import CommonSense
from foundling.evaluation.probes.contract import Probe, Setting
from foundling.evaluation.scorer import Scorer
from foundling.hamlet import World, winograd_pairs

SENTENCES = [pair.before + pair.answer + pair.after for pair in winograd_pairs(World())]
VILLAGE = ("village_winograd.seen.accuracy", "village_winograd.held_out.accuracy")


def metrics(findings: Findings) -> dict[str, Metric]:
    return {metric.key: metric for metric in findings.metrics}


def bench(folder: Path, num_items: int = 60) -> Setting:
    """Files of the published forms; the right answer has "sun" in it."""
    (folder / "bench").mkdir(exist_ok=True)
    wsc, copa, piqa = [], [], []
    for n in range(num_items):
        names = [f"Because of {n} the sun", f"Because of {n} the moon"]
        wsc += [
            {"context_options": names, "continuation": "shone.", "gold": 0},
            {"context_options": names, "continuation": "was pale.", "gold": 1},
        ]
        gold = n % 2
        choices = [f"at {n} the moon."] * 2
        choices[gold] = f"at {n} the sun."
        copa.append({"query": f"Day {n} began because", "choices": choices, "gold": gold})
        piqa.append({"query": f"Question: Dry {n}.\n", "choices": choices, "gold": gold})
    for name, rows in (("winograd_wsc", wsc), ("copa", copa), ("piqa", piqa)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "bench" / f"{name}.jsonl").write_text(text)
    return Setting(data_root=folder)


def wise() -> Planted:
    return knowing([*SENTENCES, "sun shone.", "moon was pale.", " the sun."])


def test_copies_of_an_item_are_one_cluster() -> None:
    def item(number: int, text: str, group: str = "") -> Choice:
        return Choice(str(number), ((text, " yes."), (text, " no.")), 0, group)

    copies = [item(n, "The caf\u00e9 closed because") for n in range(20)]
    copies += [item(20 + n, "the  cafe\u0301 closed BECAUSE") for n in range(20)]
    others = [item(40, "The hen sat because"), item(41, "The duck swam because", group="0")]
    found = clustered([*copies, *others])
    assert [one.id for one in found] == [one.id for one in (*copies, *others)]
    groups = [one.group for one in found]
    assert len(set(groups)) == 2  # all copies, with what shares a group with one of them
    assert groups[40] != groups[0] == groups[41]
    chosen = choose(Planted(lambda prompt, after: float(after == " yes.")), found)
    estimate = accuracy("x", "X", chosen).estimate
    assert estimate is not None
    assert estimate.num_groups == 2
    assert estimate.interval[0] < 0.5  # two clusters, all right, show little


def test_it_is_a_probe() -> None:
    assert isinstance(CommonSense(), Probe)


def test_a_perfect_model_is_right_everywhere(tmp_path: Path) -> None:
    found = metrics(CommonSense().run(wise(), bench(tmp_path)))
    right = {*VILLAGE, "wsc.accuracy", "copa.accuracy", "piqa.accuracy"}
    for key in right:
        estimate = found[key].estimate
        assert estimate is not None
        assert estimate.value == 1
    assert set(found) - right == {
        f"{name}.accuracy.{by}" for name in ("copa", "piqa") for by in ("length", "calibrated")
    }


def test_a_uniform_model_is_at_chance(tmp_path: Path) -> None:
    for metric in CommonSense().run(uniform(), bench(tmp_path)).metrics:
        estimate = metric.estimate
        assert estimate is not None
        assert metric.chance == 0.5
        # Of nine intervals at 95% one may miss; none is missed by four standard errors.
        assert abs(estimate.value - 0.5) <= 4 * estimate.standard_error, metric.key


def test_equal_scores_count_as_guessed(tmp_path: Path) -> None:
    found = metrics(CommonSense().run(Planted(lambda prompt, after: -1.0), bench(tmp_path)))
    assert set(found["wsc.accuracy"].outcomes.values()) == {0.5}


def test_a_model_that_reads_only_the_continuation_is_at_chance_on_schemas(tmp_path: Path) -> None:
    short = Planted(lambda prompt, after: -float(len(after)))
    found = metrics(CommonSense().run(short, bench(tmp_path)))
    assert set(found["wsc.accuracy"].outcomes.values()) == {0.5}
    # The right one is the shorter: no better than the rule beside it.
    copa = found["copa.accuracy"]
    assert copa.baseline is not None
    assert set(copa.outcomes.values()) == {copa.baseline.value} == {1.0}
    assert copa.baseline.rule == "always the shortest"
    assert set(found["copa.accuracy.length"].outcomes.values()) == {0.5}


def test_calibration_takes_away_what_the_neutral_prompt_says(tmp_path: Path) -> None:
    def log_prob(prompt: str, after: str) -> float:
        return (5.0 if "moon" in after else 0.0) - (0.5 if "sun" in after else 1.0) * len(prompt)

    found = metrics(CommonSense().run(Planted(log_prob), bench(tmp_path)))
    assert set(found["piqa.accuracy"].outcomes.values()) == {1.0}
    biased = Planted(lambda p, a: (50.0 if "moon" in a else 0.0) + ("Day" in p and "sun" in a))
    found = metrics(CommonSense().run(biased, bench(tmp_path)))
    assert set(found["copa.accuracy"].outcomes.values()) == {0.0}
    assert set(found["copa.accuracy.calibrated"].outcomes.values()) == {1.0}


def test_twins_and_schemas_are_groups_and_are_limited_together(tmp_path: Path) -> None:
    setting = bench(tmp_path)
    found = metrics(CommonSense().run(uniform(), Setting(data_root=setting.data_root, limit=7)))
    wsc = found["wsc.accuracy"].estimate
    assert wsc is not None
    assert (wsc.n, wsc.num_groups) == (14, 7)
    assert len(found["copa.accuracy"].outcomes) == 7
    held_out = found[VILLAGE[1]]
    assert held_out.groups is not None
    assert len(held_out.outcomes) == 14
    assert set(held_out.groups.values()) <= {
        p.schema for p in winograd_pairs(World()) if p.held_out
    }


def test_what_is_not_there_or_does_not_fit_is_said(tmp_path: Path) -> None:
    scorer: Scorer = Planted(lambda prompt, after: -1.0, max_characters=60)
    findings = CommonSense().run(scorer, Setting())
    assert "not measured: bench/copa.jsonl is not below --data-root" in findings.notes
    assert any(f"items of village_winograd.seen: {UNREADABLE}" in note for note in findings.notes)
    assert {metric.key for metric in findings.metrics} == set(VILLAGE)


def test_a_broken_file_is_a_fault_with_its_line(tmp_path: Path) -> None:
    setting = bench(tmp_path, 2)
    with (tmp_path / "bench" / "copa.jsonl").open("a") as file:
        file.write('{"query": "x", "choices": ["a", "b"], "gold": 5}\n')
    with pytest.raises(ConfigError, match=r"copa\.jsonl:3: gold = 5"):
        CommonSense().run(uniform(), setting)
