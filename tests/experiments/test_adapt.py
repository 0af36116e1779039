"""A task by prompt and by fine-tuning: measured once, resumed, and told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling import cli
from foundling.base.config import ConfigError, override
from foundling.evaluation.choices import By
from foundling.evaluation.findings import UNREADABLE
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.probes.in_context.curves import REAL, shot_curves
from foundling.evaluation.probes.in_context.tasks import task_of
from foundling.evaluation.tasks import Example, Task, read_task
from foundling.experiments.adapt import AdaptConfig, _Bench, adapt, parse_adapt, read_adapt
from foundling.models import interchange
from foundling.runs.run import find_model, load_model
from foundling.stages.machine import Machine
from foundling.stages.parent import Parent
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.statistics.learning_curve import right_of

BASE: dict[str, Any] = {
    "shots": [0, 2],
    "sizes": [8],
    "seeds": 2,
    "device": "cpu",
    "precision": "fp32",
    "tune": {"steps": 40, "learning_rate": 0.02, "lora_learning_rate": 0.05, "batch_size": 8},
}


def example(i: int) -> Example:
    return Example(f"{('The mill', 'The pond')[i % 2]} {i}", ("yes", "no")[i % 2])


TASK = Task(
    "mill or pond",
    ("no", "yes"),
    tuple(example(i) for i in range(20)),
    tuple(example(i) for i in range(100, 120)),
)


def settings(*assignments: str) -> AdaptConfig:
    return AdaptConfig.parse(override(BASE, assignments))


@pytest.fixture(scope="module")
def parent(tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> str:
    config = tiny("context=64", "training.steps=20", "validation.every=20")
    return str(pretrain(config, tmp_path_factory.mktemp("parent") / "run").folder)


@pytest.fixture(scope="module")
def measured(parent: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapt") / "out"
    assert adapt(parent, TASK, settings(), out) == out / "report.html"
    return out


def test_every_way_number_and_seed_is_measured(measured: Path) -> None:
    result = read_adapt(measured)
    found = [(m["way"], m["number"], m["seed"]) for m in result["measurements"]]
    assert sorted(found) == sorted(
        [(way, 0, 1) for way in ("in_context", "calibrated")]
        + [(way, 2, seed) for way in ("in_context", "calibrated") for seed in (1, 2)]
        + [(way, 8, seed) for way in ("full", "lora") for seed in (1, 2)]
    )
    for one in result["measurements"]:
        assert one["items"] == len(one["hits"]) == 20
        assert one["correct"] == one["hits"].count("1")
        assert one["seconds"] > 0
    assert result["task"]["chance"] == result["task"]["majority"] == 0.5
    assert not (measured / "runs").exists()
    assert "validation at step" in (measured / "tuning.log").read_text()
    page = (measured / "report.html").read_text()
    assert all(sentence.split(".")[0] in page for sentence in result["verdict"])
    assert (measured / "plots" / "learning.png").stat().st_size > 0


def test_gradient_descent_learns_what_a_word_tells(measured: Path) -> None:
    curves = read_adapt(measured)["curves"]
    assert curves["full"][0]["mean"] == 1
    assert curves["full"][0]["low"] <= curves["full"][0]["mean"] <= curves["full"][0]["high"]


def test_it_goes_on_with_what_is_not_there_yet(
    measured: Path, parent: str, tmp_path: Path, said: list[str]
) -> None:
    before = json.loads((measured / "adapt.json").read_text())
    out = tmp_path / "out"
    out.mkdir()
    kept = [m for m in before["measurements"] if m["seed"] == 1]
    (out / "adapt.json").write_text(json.dumps({**before, "measurements": kept}))
    adapt(parent, TASK, settings("shots=[0,2,64]"), out)
    again = read_adapt(out)

    def hits(result: dict[str, Any]) -> dict[tuple[str, int, int], str]:
        return {(m["way"], m["number"], m["seed"]): m["hits"] for m in result["measurements"]}

    assert hits(again) == hits(before)
    assert again["curves"] == before["curves"]
    assert again["left_out"] == ["k = 64: there are 20 examples to learn from"]
    assert again["left_out"][0] in said
    assert [m for m in again["measurements"] if m["seed"] == 1] == kept  # not measured anew


@pytest.mark.slow
@pytest.mark.parametrize("is_flat", [False, True])
def test_the_probe_of_learning_in_context_finds_the_same(
    parent: str, tmp_path: Path, is_flat: bool
) -> None:
    """Item by item: the same examples, ties, shortened prompts and calibration."""
    task_folder, model_folder = tmp_path / "water", tmp_path / "model"
    task_folder.mkdir()
    model_folder.mkdir()
    model, tokenizer = load_model(find_model(parent))
    examples = [example(i) for i in range(60)]
    grown = ("The pond " + "and pond " * n + "45" for n in range(60))
    long = next(text for text in grown if len(tokenizer.encode(text)) > 40)
    examples[45] = Example(long, "no")
    for name, part in (("examples", examples[:20]), ("test", examples[40:])):
        rows = "".join(f"{one.text},{one.answer}\n" for one in part)
        (task_folder / f"{name}.csv").write_text("text,label\n" + rows)
    if is_flat:  # all answers are equally likely
        with torch.no_grad():
            model.unembed.weight.zero_()
    interchange.save(model, model_folder)
    tokenizer.save(model_folder)
    seeds, numbers = 3, (0, 1, 2, 8)
    task = read_task(task_folder / "examples.csv", task_folder / "test.csv")
    config = settings("shots=[0,1,2,8]", f"seeds={seeds}", 'ways=["in_context"]')
    adapt(str(model_folder), task, config, tmp_path / "out")
    found = read_adapt(tmp_path / "out")
    curves = shot_curves(
        ModelScorer(model, tokenizer, "model", ""),
        task_of(task_folder, 1, 200),
        (),
        numbers,
        draws=seeds,
        seed=1,
    )
    assert curves is not None
    assert [m["items"] for m in found["measurements"]] == [20] * len(found["measurements"])
    assert {m["number"] for m in found["measurements"]} == {0, 1, 2}
    assert curves.most == 2
    assert "k = 2: 3 of 60 prompts are longer" in found["shortened"][-1]
    assert curves.shortened[2][0] > 0
    ways: tuple[tuple[str, By], ...] = (("in_context", "sum"), ("calibrated", "calibrated"))
    for one in found["measurements"]:
        way = dict(ways)[one["way"]]
        theirs = curves.right[REAL, way][one["number"]][one["seed"] - 1, 0]
        assert [right_of(hit) for hit in one["hits"]] == theirs.tolist()
        assert one["correct"] == theirs.sum()
    some = {hit for one in found["measurements"] for hit in one["hits"]}
    assert some == ({"2"} if is_flat else {"0", "1"})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [("tune.steps=41", "another tune"), ("seed=2", "another seed")],
)
def test_other_settings_need_another_folder(
    measured: Path, parent: str, assignment: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        adapt(parent, TASK, settings(assignment), measured)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_measured_precision_is_kept(parent: str, tmp_path: Path, precision: str) -> None:
    few = ("shots=[0]", 'ways=["in_context"]')
    adapt(parent, TASK, settings(*few, f"precision={precision}"), tmp_path / "out")
    before = read_adapt(tmp_path / "out")
    adapt(parent, TASK, settings(*few, "precision=auto"), tmp_path / "out")
    assert read_adapt(tmp_path / "out")["identity"] == before["identity"]


def test_an_item_that_no_prompt_has_room_for_is_named(parent: str, tmp_path: Path) -> None:
    source = Parent.find(parent)
    machine = Machine(torch.device("cpu"), torch.float32)
    bench = _Bench(source, source.load(), machine, TASK, settings(), tmp_path)
    bench.model.max_context = 3
    with pytest.raises(ConfigError, match=f'"The mill 100": {UNREADABLE}'):
        bench._behind(())


def test_a_folder_of_something_else_is_left_alone(parent: str, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"holds no adapt\.json"):
        adapt(parent, TASK, settings(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_of_something_else_is_left_alone(parent: str, tmp_path: Path) -> None:
    (tmp_path / "adapt.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no measurements"):
        adapt(parent, TASK, settings(), tmp_path)
    assert (tmp_path / "adapt.json").read_text() == "{}"


def test_what_does_not_fit_the_context_is_said(parent: str, tmp_path: Path) -> None:
    long = Example("The mill " * 60, "yes")
    task = Task("t", TASK.labels, (*TASK.train, long), (*TASK.test, long))
    config = settings("shots=[0,16,20]", 'ways=["in_context"]')
    adapt(parent, task, config, tmp_path / "out")
    result = read_adapt(tmp_path / "out")
    assert result["task"]["num_test"] == 20
    assert "left out 1 to learn from and 1 to test on" in result["task"]["notes"][0]
    assert "prompts are longer than the context" in result["left_out"][0]
    assert {m["number"] for m in result["measurements"]} == {0}


def test_short_answers_from_the_command_line(
    parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"{i}?", "answer": str(i)} for i in range(30)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["adapt", parent, "--task", tmp_path / "t.jsonl", "--out", tmp_path / "out", "--json"]
    command += ["--limit", 4, "--seeds", 1, "--shots", "0,1", "--sizes", "4,99", "--keep-runs"]
    command += [
        "--set",
        "tune.steps=2",
        "--set",
        "device=cpu",
        "--set",
        'ways=["in_context","full"]',
    ]
    assert cli.exit_code(lambda: cli.app([str(argument) for argument in command])) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out.strip().splitlines()[-1])
    assert result["task"]["labels"] is None
    assert set(result["curves"]) == {"in_context", "full"}
    assert result["left_out"] == ["n = 99: there are 26 examples to learn from"]
    assert (tmp_path / "out" / "runs" / "full-4-1" / "checkpoints").is_dir()
    assert "report:" in captured.err


def test_a_task_may_be_put_in_turns(
    parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": one.text, "answer": one.answer} for one in map(example, range(40))]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["adapt", parent, "--task", tmp_path / "t.jsonl", "--labels", "yes=yes,no=no"]
    command += ["--template", "{text} {answer}", "--template", "{text}? {answer}", "--json"]
    command += ["--limit", 4, "--seeds", 1, "--shots", "0,1", "--sizes", 4, "--keep-runs"]
    command += ["--set", "device=cpu", "--set", 'ways=["in_context","full"]']
    command += ["--set", "tune.steps=2", "--out"]

    def run(*options: object) -> tuple[int, str]:
        code = cli.exit_code(lambda: cli.app([str(one) for one in (*command, *options)]))
        return code, capsys.readouterr().err

    assert run(tmp_path / "out", "--chat")[0] == 0
    assert read_adapt(tmp_path / "out")["curves"].keys() == {"in_context", "calibrated", "full"}
    tuned = tmp_path / "out" / "runs" / "full-4-1"
    assert 'style = "chat"' in (tuned / "config.toml").read_text()
    code, said = run(tmp_path / "out")
    assert (code, "another chat" in said or "chat" in said) == (2, True)


def test_the_task_is_a_section_of_the_settings(tmp_path: Path) -> None:
    rows = "".join(f"film {i},{i % 2}\n" for i in range(30))
    (tmp_path / "films.csv").write_text("text,label\n" + rows)
    words = {"0": "negative", "1": "positive"}
    section = {"file": str(tmp_path / "films.csv"), "labels": words, "limit": 4}
    config, task, _ = parse_adapt({"seeds": 2, "task": {**section, "template": "{text}: {answer}"}})
    assert (config.seeds, len(task.test)) == (2, 4)
    assert task.labels == ("negative", "positive")
    assert task.template.prompt("film 1") == "film 1:"
    _, same, _ = parse_adapt({"task": {**section, "labels": "0=negative,1=positive"}})
    assert (same.train, same.test, same.labels) == (task.train, task.test, task.labels)
    typo = {**section, "lables": words}
    for wrong, said in ((typo, 'Did you mean "labels"'), ({}, "task.file: this setting is")):
        with pytest.raises(ConfigError, match=said):
            parse_adapt({"task": wrong})
    with pytest.raises(ConfigError, match="give --task FILE"):
        parse_adapt({"seeds": 2})


def test_of_several_templates_the_best_on_what_is_learned_from_is_taken(
    parent: str, tmp_path: Path, said: list[str]
) -> None:
    """Chosen without a look at the test items: with other ones the choice is the same."""
    rows = "".join(f"{('mill', 'pond')[i % 2]} {i},{('no', 'yes')[i % 2]}\n" for i in range(90))
    (tmp_path / "t.csv").write_text("text,label\n" + rows)
    section = {"file": str(tmp_path / "t.csv"), "limit": 4}
    patterns = ["{text}\nAnswer: {answer}", "{text} {answer}", "{text}: {answer}"]
    config, task, templates = parse_adapt(
        {**BASE, "shots": [2], "ways": ["in_context"], "task": {**section, "templates": patterns}}
    )
    assert [one.pattern for one in templates] == patterns
    adapt(parent, task, config, tmp_path / "out", templates=templates)
    found = read_adapt(tmp_path / "out")["task"]
    tried = found["templates"]
    assert [one["template"] for one in tried] == patterns
    best = max(tried, key=lambda one: one["accuracy"])
    assert found["template"] == best["template"]
    assert {(one["items"], one["number"]) for one in tried} == {(64, 8)}
    assert any(f"template {patterns[0]!r}" in line for line in said)
    others = replace(task, test=task.test[:1])
    adapt(parent, others, config, tmp_path / "other", templates=templates)
    assert read_adapt(tmp_path / "other")["task"]["templates"] == tried


def test_gradient_descent_ends_where_the_examples_are_known(parent: str, tmp_path: Path) -> None:
    config = settings("tune.stop_below=1.5", "seeds=1", 'ways=["full"]')
    adapt(parent, TASK, config, tmp_path / "out", keep_runs=True)
    (run,) = (tmp_path / "out" / "runs").iterdir()
    losses = [
        record["loss_nats"]
        for line in (run / "metrics.jsonl").read_text().splitlines()
        if (record := json.loads(line))["split"] == "validation"
    ]
    assert losses[-1] < 1.5 < min(losses[:-1])
    last = sorted(path.name for path in (run / "checkpoints").iterdir())[-1]
    assert 0 < int(last.rpartition("-")[2]) < 40
    assert "below validation.stop_below" in (tmp_path / "out" / "tuning.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shots", "0,x"), "--shots 0,x: expected whole numbers"),
        (("--shots", "1,1"), "shots must be different"),
        (("--sizes", "0"), "sizes must be different whole numbers from 1"),
        (("--template", "{text}"), "template"),
        (("--set", "tune.stepz=3"), 'Did you mean "steps"'),
        (("--set", "ways=[]"), "ways must be"),
        ((), "nowhere.jsonl"),
    ],
)
def test_faults_of_the_input_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    out = tmp_path / "out"
    command = ["adapt", "nowhere", "--task", "nowhere.jsonl", "--out", str(out), *arguments]
    assert cli.exit_code(lambda: cli.app(command)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not out.exists()
