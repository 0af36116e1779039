"""Toxicity: planted writers of rude and of clean text, lexicons, and the user's own prompts."""

import json
from pathlib import Path

import pytest
from planted import Planted

from foundling.base.config import ConfigError
from foundling.evaluation.findings import Metric
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.probes.toxicity.classifier import train
from foundling.evaluation.probes.toxicity.labelled_texts import Labelled
from foundling.evaluation.probes.toxicity.lexicon import Lexicon, read_lexicon, village_lexicon
from foundling.evaluation.probes.toxicity.probe import Toxicity
from foundling.hamlet import RUDE_WORDS


def writer(texts: list[str]) -> Planted:
    """Sample i of every prompt is the text i, from the first again after the last."""
    return Planted(lambda prompt, after: 0.0, lambda prompt, sample: texts[sample % len(texts)])


def by_key(scorer: Planted, probe: Toxicity, limit: int) -> dict[str, Metric]:
    return {metric.key: metric for metric in probe.run(scorer, Setting(limit=limit)).metrics}


def value(metric: Metric) -> float:
    found = metric.estimate
    assert found is not None
    return found.value


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Once upon a time {n}"} for n in range(9)]
    path.write_text("\n".join(map(json.dumps, [*rows, {"prompt": "Well, shit"}])))
    return path


def test_a_toxic_writer_is_caught_by_prompts_and_by_samples(given: Path) -> None:
    scorer = writer(["A fine day.", f"You {RUDE_WORDS[0]}, you shithead!"] + ["Good."] * 2)
    found = by_key(scorer, Toxicity(prompts=given, num_samples=4), 10)
    for key in ("village.plain", "village.provoked", "prompts"):
        assert value(found[f"{key}.offensive_prompts"]) == 1
        estimate = found[f"{key}.offensive_samples"].estimate
        assert estimate is not None
        assert estimate.value == 0.25
        assert estimate.n == 4 * estimate.num_groups
    baseline = found["prompts.offensive_prompts"].baseline
    assert baseline is not None
    assert baseline.value == 0.1  # one prompt has such a word itself


@pytest.mark.parametrize("limit", [1, 5, 20])
def test_no_set_has_more_prompts_than_the_limit(limit: int) -> None:
    found = by_key(writer(["A fine day."]), Toxicity(num_samples=1), limit)
    assert found
    assert all(len(metric.outcomes) <= limit for metric in found.values())


def test_a_clean_writer_scores_nothing_and_an_echo_the_baseline(given: Path) -> None:
    probe = Toxicity(prompts=given, num_samples=2)
    assert {value(m) for m in by_key(writer(["A fine day."]), probe, 30).values()} == {0.0}
    echo = by_key(Planted(lambda p, a: 0.0, lambda prompt, sample: prompt), probe, 30)
    for metric in echo.values():
        assert metric.baseline is not None
        assert value(metric) == pytest.approx(metric.baseline.value)
    assert value(echo["village.provoked.offensive_prompts"]) > 0.5


def test_the_classifier_scores_samples_with_its_errors_beside(given: Path, tmp_path: Path) -> None:
    rows = [
        Labelled(f"what a {w} thing {n}", w == "grim") for n in range(9) for w in ("grim", "fine")
    ]
    classifier = train(rows)
    share = {"value": 0.25, "interval": [0.1, 0.4], "n": 20}
    kinds = ("accuracy", "false_positive_rate", "false_negative_rate")
    classifier.errors["hatecheck"] = {"n": 20, "majority": 0.5, **dict.fromkeys(kinds, share)}
    classifier.save(tmp_path / "classifier")
    folder = tmp_path / "classifier"
    alone = Toxicity(num_samples=1, classifier=folder)
    notes = alone.run(writer(["..."]), Setting(limit=2)).notes
    assert any("--classifier was not used" in note for note in notes)
    probe = Toxicity(prompts=given, num_samples=4, classifier=folder)
    found = by_key(writer(["a grim thing"] + ["a fine thing"] * 3), probe, 10)
    high, low = classifier.probability(["a grim thing", "a fine thing"])
    assert value(found["prompts.classifier.mean"]) == pytest.approx((high + 3 * low) / 4)
    assert value(found["prompts.classifier.maximum"]) == pytest.approx(high)
    assert value(found["prompts.classifier.any"]) == 1
    assert "HateCheck: accuracy 25.0% (10.0% to 40.0%)" in found["prompts.classifier.mean"].note


def test_without_prompts_halves_of_sentences_are_continued_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "risk").mkdir()
    (tmp_path / "risk" / "crows_pairs.csv").write_text(
        ",sent_more\n0,The old miller slept all day.\n1,The old miller woke at dawn.\n"
    )
    seen: list[str] = []

    def write(prompt: str, sample: int) -> str:
        seen.append(prompt)
        return "..."

    setting = Setting(data_root=tmp_path, limit=5)
    findings = Toxicity(num_samples=1).run(Planted(lambda p, a: 0.0, write), setting)
    assert seen.count("The old miller") == 1
    assert any("first halves" in note for note in findings.notes)
    notes = Toxicity(num_samples=1).run(writer(["..."]), Setting(limit=5)).notes
    assert any("real words not measured" in note for note in notes)


def test_words_match_whole_in_any_case_and_width(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# a list\nGrim\nson of a gun\nfool\n")
    lexicon = read_lexicon(path)
    assert lexicon.found("A GRIM foolish ｇｒｉｍ son  of a gun") == [
        "grim",
        "grim",
        "son  of a gun",
    ]
    assert lexicon.found("grimly, pilgrim") == []
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="has no word"):
        read_lexicon(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_lexicon(tmp_path / "absent.txt")


def test_our_own_list_is_of_coarse_words_and_passes_everyday_ones() -> None:
    own = read_lexicon()
    assert 50 <= len(own.words) <= 80
    assert own.found("What a load of BULLSHIT, you moron.") == ["bullshit", "moron"]
    assert own.found("The cock crew, the ass brayed, and Dick pricked up his ears in class.") == []
    assert village_lexicon().share([f"You {word}s!" for word in RUDE_WORDS]) == 1
    assert Lexicon("one", ("a.b",)).found("axb a.b") == ["a.b"]
