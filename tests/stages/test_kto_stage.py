"""Tuning on labelled answers as a stage: its start, what it learns, resume, healing, faults."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Fault, FaultPlan
from test_dpo_stage import files, interrupts, metrics, parent, same, weights  # noqa: F401

from foundling import cli
from foundling.base.config import ConfigError, override
from foundling.data.conversations import LabelledConversation
from foundling.data.encoded_pairs import EncodedPairs
from foundling.runs.run import find_model, load_model
from foundling.stages.kto import KtoConfig, kto, mismatched
from foundling.text.chat import Message
from foundling.training.interrupt import Interrupted


@pytest.fixture(scope="module")
def rows(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """Labelled answers, one to each prompt: good ones and rude ones in turn."""
    found = [json.loads(line) for line in files[1].read_text().splitlines()]
    path = tmp_path_factory.mktemp("labelled") / "kto.jsonl"
    with path.open("w") as file:
        for number, row in enumerate(found):
            side, label = (("chosen", True), ("rejected", False))[number % 2]
            line = {"prompt": row["prompt"], "completion": row[side], "label": label}
            file.write(json.dumps(line) + "\n")
    return path


@pytest.fixture
def settings(parent: Path, rows: Path) -> Callable[..., KtoConfig]:  # noqa: F811
    base: dict[str, Any] = {
        "seed": 5,
        "parent": str(parent),
        "data": {"files": [str(rows)], "on_long": "drop", "validation_fraction": 0.2},
        "training": {"steps": 4, "batch_size": 4, "micro_batch_size": 3, "precision": "fp32"},
        "optimizer": {"learning_rate": 3e-3},
        "schedule": {"warmup_steps": 1},
        "forgetting": {"max_tokens": 400},
        "validation": {"every": 4, "kl_prompts": 2, "kl_tokens": 4},
        "checkpoint": {"every": 2, "keep_last": 9},
    }
    return lambda *assignments: KtoConfig.parse(override(base, assignments))


def test_it_begins_at_one_half_and_learns_the_labels(
    settings: Callable[..., KtoConfig], tmp_path: Path
) -> None:
    run = kto(settings("training.steps=8"), tmp_path / "run")
    first, *_, last = run.records()["validation"]
    assert first["step"] == 0
    assert first["loss_nats"] == pytest.approx(0.5, abs=1e-4)
    assert first["margin"] == pytest.approx(0, abs=1e-4)
    assert abs(first["kl_nats"]) < 1e-6
    assert last["loss_nats"] < first["loss_nats"]
    assert last["margin"] > 0.01
    assert last["accuracy"] > 0.5
    assert last["kl_nats"] > 1e-6
    assert "Preferred rightly" in (run.folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [(), ("adapter.rank=2", "reference.kind=live")])
def test_interrupted_equals_uninterrupted(
    settings: Callable[..., KtoConfig], tmp_path: Path, changes: tuple[str, ...]
) -> None:
    whole = kto(settings(*changes), tmp_path / "whole")
    with pytest.raises(Interrupted):
        kto(settings(*changes), tmp_path / "parts", seam=interrupts)
    parts = kto(settings(*changes), tmp_path / "parts", resume=True)
    assert same(weights(parts), weights(whole))
    assert metrics(parts) == metrics(whole)


@pytest.mark.slow
def test_the_guard_heals_this_stage_too(settings: Callable[..., KtoConfig], tmp_path: Path) -> None:
    fault = Fault("loss", "nan", samples=range(9, 10), sticky=True)
    healed = kto(settings(), tmp_path / "healed", seam=FaultPlan([fault]))
    amendments = healed.manifest["amendments"]
    assert amendments["skipped"]
    told = settings("guard.enabled=false").values() | {"amendments": amendments}
    clean = kto(KtoConfig.parse(told), tmp_path / "clean")
    assert same(weights(healed), weights(clean))


@pytest.mark.slow
def test_pairs_are_two_labelled_answers(
    settings: Callable[..., KtoConfig],
    files: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    run = kto(settings(f'data.files=["{files[1]}"]', "training.steps=1"), tmp_path / "run")
    assert run.records()["validation"][-1]["good"] == pytest.approx(0.5, abs=0.1)


def labelled(where: str, prompt: str, answer: str, label: bool = True) -> LabelledConversation:
    messages = (Message("user", prompt), Message("assistant", answer))
    return LabelledConversation(where, messages, 1, label)


def test_each_answer_stands_beside_a_shorter_one_to_another_prompt() -> None:
    answers = [
        labelled("a", "one", "yes, indeed"),
        labelled("b", "two", "no", False),
        labelled("c", "one", "maybe"),
        labelled("d", "three", "perhaps"),
    ]
    found = mismatched(answers)
    assert [pair.where for pair in found] == ["a (good)", "b (bad)", "c (good)", "d (good)"]
    assert [pair.chosen for pair in found] == [answer.messages for answer in answers]
    endings = [pair.rejected[-1].content for pair in found]
    assert endings == ["perhaps", "maybe", "no", "maybe"]
    assert all(pair.rejected[:1] == pair.chosen[:1] for pair in found)
    with pytest.raises(ConfigError, match="give rows with several prompts"):
        mismatched(answers[::2])


def test_each_label_stays_with_its_answer(parent: Path) -> None:  # noqa: F811
    answers = [
        labelled("a", "one", "yes, indeed " * 9),
        labelled("b", "two", "no", False),
        labelled("c", "three", "maybe"),
    ]
    _, tokenizer = load_model(find_model(str(parent)))
    pairs, _ = EncodedPairs.make(mismatched(answers), tokenizer, max_length=40, on_long="drop")
    assert pairs.where == ("b (bad)", "c (good)")
    assert pairs.labels == (False, True)


def test_eight_rows_with_eight_prompts_are_enough(
    settings: Callable[..., KtoConfig], rows: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(rows.read_text().splitlines(keepends=True)[:8]))
    told = ("training.steps=1", "data.validation_fraction=0.1")
    run = kto(settings(f'data.files=["{few}"]', *told), tmp_path / "run")
    assert run.summary()["step"] == 1


@pytest.mark.slow
def test_the_verb_takes_rows_with_labels(
    settings: Callable[..., KtoConfig],
    parent: Path,  # noqa: F811
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["kto", "--from", parent, "--data", rows, "--out", tmp_path / "run", "--json"]
    command += ["--set=training.steps=1", "--set=data.on_long=drop"]
    assert cli.exit_code(lambda: cli.app([str(argument) for argument in command])) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (told["stage"], told["step"]) == ("kto", 1)
