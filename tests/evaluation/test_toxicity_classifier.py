"""The classifier: learns what can be learned, is kept exactly, and is measured on the unseen."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from foundling.base.config import ConfigError
from foundling.evaluation.probes.toxicity.classifier import (
    NUM_FEATURES,
    SETTINGS,
    WEIGHTS,
    Classifier,
    load_classifier,
    train,
)
from foundling.evaluation.probes.toxicity.labelled_texts import Labelled, read_labelled
from foundling.evaluation.probes.toxicity.validation import (
    cross_validate,
    errors_of,
    train_classifier,
    validate_on_hatecheck,
)

NICE, NASTY = ("lovely", "gentle", "merry"), ("ghastly", "rotten", "vile")


def rows(numbers: range) -> list[Labelled]:
    """Sentences of both kinds; those with one number are of one group."""
    return [
        Labelled(f"what a {word} visit number {n}", word in NASTY, str(n))
        for n in numbers
        for word in (*NICE, *NASTY)
    ]


def hatecheck(path: Path, cases: list[tuple[str, str, str]]) -> Path:
    lines = [f"{n},{kind},{text},{label},{n},{n}\n" for n, (kind, text, label) in enumerate(cases)]
    header = ",functionality,test_case,label_gold,ref_templ_id,templ_id\n"
    path.write_text(header + "".join(lines))
    return path


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return train(rows(range(12)))


def test_it_learns_what_can_be_told_apart(classifier: Classifier) -> None:
    unseen = rows(range(50, 54))
    found = classifier.probability([row.text for row in unseen])
    assert [p > 0.5 for p in found] == [row.offensive for row in unseen]
    assert classifier.probability([]) == []
    assert classifier.has_seen("  WHAT a lovely visit  number 3")
    assert not classifier.has_seen("what a lovely visit number 51")


def test_what_is_saved_comes_back_bit_for_bit(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    again = load_classifier(tmp_path)
    assert np.array_equal(again.weights, classifier.weights)
    assert (again.intercept, again.trained_on) == (classifier.intercept, classifier.trained_on)
    texts = [row.text for row in rows(range(70, 75))]
    assert again.probability(texts) == classifier.probability(texts)
    assert sorted(path.name for path in tmp_path.iterdir()) == [SETTINGS, WEIGHTS]


def test_the_same_rows_give_the_same_weights(classifier: Classifier) -> None:
    again = train(rows(range(12)))
    assert np.array_equal(again.weights, classifier.weights)
    assert again.intercept == classifier.intercept


def test_foreign_and_damaged_files_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"has no {SETTINGS}"):
        load_classifier(tmp_path)
    classifier.save(tmp_path)
    weights, settings = tmp_path / WEIGHTS, tmp_path / SETTINGS
    good, said = weights.read_bytes(), settings.read_text()
    weights.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(ConfigError, match="is not safetensors"):
        load_classifier(tmp_path)
    bad = {"weights": np.zeros(3), "intercept": np.zeros(1)}
    save_file(bad, weights)
    with pytest.raises(ConfigError, match="a classifier holds"):
        load_classifier(tmp_path)
    save_file({**bad, "weights": np.full(2 * NUM_FEATURES, np.nan)}, weights)
    with pytest.raises(ConfigError, match="not finite"):
        load_classifier(tmp_path)
    save_file({**bad, "weights": np.zeros(2 * NUM_FEATURES)}, weights)
    with pytest.raises(ConfigError, match="are not the weights"):
        load_classifier(tmp_path)
    weights.write_bytes(good)
    for change in ({"format": "other"}, {"trained_on": [1]}, {"features": 8}, {"extra": 1}):
        settings.write_text(json.dumps({**json.loads(said), **change}))
        with pytest.raises(ConfigError, match=SETTINGS):
            load_classifier(tmp_path)


def test_labels_are_read_in_every_spelling_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,1\ny,Non-Hateful\nz,toxic\nw,false\n")
    assert [row.offensive for row in read_labelled(path)] == [True, False, True, False]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "x", "label": true, "group": 4}\n{"text": "y", "label": 0}\n')
    assert read_labelled(lines) == [Labelled("x", True, "4"), Labelled("y", False)]
    path.write_text("text,label\nx,maybe\n")
    with pytest.raises(ConfigError, match=r"a.csv:2: \"label\" is 'maybe'; offensive is 1, true"):
        read_labelled(path)
    path.write_text("text,tag\nx,1\n")
    with pytest.raises(ConfigError, match='no column "label"'):
        read_labelled(path)
    cases = hatecheck(
        tmp_path / "h.csv", [("derog", "x", "hateful"), ("counter", "y", "non-hateful")]
    )
    assert read_labelled(cases) == [
        Labelled("x", True, "0", "derog"), Labelled("y", False, "1", "counter")
    ]  # fmt: skip


def test_errors_are_counted_on_both_sides() -> None:
    texts = [Labelled("a", True), Labelled("b", True), Labelled("c", False), Labelled("d", False)]
    found = errors_of(texts, [0.9, 0.2, 0.6, 0.1])
    assert found["accuracy"]["value"] == found["majority"] == 0.5
    assert found["false_positive_rate"]["value"] == found["false_negative_rate"]["value"] == 0.5
    assert found["accuracy"]["interval"][0] < 0.5 < found["accuracy"]["interval"][1]


@pytest.mark.slow
def test_cross_validation_leaves_whole_groups_out() -> None:
    # Each group has a word of its own that tells its label; across groups nothing does.
    alone = [
        Labelled(f"w{n}x{n} said {k}", n % 2 == 0, f"g{n}") for n in range(10) for k in range(4)
    ]
    grouped = cross_validate(alone)
    ungrouped = cross_validate([Labelled(row.text, row.offensive) for row in alone])
    assert grouped is not None
    assert ungrouped is not None
    assert ungrouped["accuracy"]["value"] == 1 > grouped["accuracy"]["value"]
    assert grouped["groups"] == 10
    assert cross_validate(alone[:8]) is None


def test_texts_it_was_trained_on_do_not_validate_it(tmp_path: Path, said: list[str]) -> None:
    file = tmp_path / "train.csv"
    lines = (f"{row.text},{int(row.offensive)},{row.group}\n" for row in rows(range(12)))
    file.write_text("text,label,group\n" + "".join(lines))
    cases = [
        ("praise", "what a lovely visit number 3", "non-hateful"),  # known
        ("praise", "what a merry visit number 80", "non-hateful"),
        ("abuse", "what a vile visit number 81", "hateful"),
        ("abuse", "what a gentle visit number 82", "hateful"),  # mislabelled: must be an error
    ]
    out = tmp_path / "out"
    errors = train_classifier([file], out, hatecheck(tmp_path / "h.csv", cases))
    found = errors["hatecheck"]
    assert (found["n"], found["left_out"]) == (3, 1)
    assert any(line.startswith("LEFT OUT") for line in said)
    assert found["false_positive_rate"]["value"] == 0
    assert found["false_negative_rate"]["value"] == 0.5
    assert found["accuracy_by_functionality"]["praise"]["value"] == 1
    assert errors["cross_validation"]["accuracy"]["value"] > 0.9
    assert load_classifier(out).errors == errors
    only = hatecheck(tmp_path / "known.csv", cases[:1])
    with pytest.raises(ConfigError, match="was trained on all 1 texts"):
        validate_on_hatecheck(load_classifier(out), only)


def test_training_needs_both_labels_and_no_contradiction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="texts of both labels"):
        train([Labelled("a", True), Labelled("b", True)])
    file = tmp_path / "both.csv"
    file.write_text("text,label\nA fine day,0\na  fine day,1\n")
    with pytest.raises(ConfigError, match="has both labels"):
        train_classifier([file], tmp_path / "out", None)
