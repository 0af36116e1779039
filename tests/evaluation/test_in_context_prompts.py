"""Learning in context of whole prompts and of several tasks at once."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from minds import (
    PEOPLE,
    Recorder,
    Repeating,
    completions,
    folder,
    fronts,
    heights,
    jsonl,
    measured,
    metrics,
    value,
)
from planted import uniform

from foundling.evaluation.probes.in_context.curves import OTHERS
from foundling.hamlet.pair_lists import MADE_UP


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
