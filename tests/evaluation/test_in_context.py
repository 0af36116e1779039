"""Learning in context: what learns from its prompt is told from what knows, guesses or repeats."""

import pytest
from minds import (
    Mind,
    heights,
    interval,
    learns_names,
    measured,
    metrics,
    recognises,
    repeats_the_first,
    repeats_the_last,
    value,
)
from planted import Planted, uniform

from foundling.evaluation.probes.contract import Probe
from foundling.evaluation.probes.in_context.curves import LABELS, OTHERS
from foundling.evaluation.probes.in_context.probe import InContext


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
