"""The verb evaluate: models side by side, nothing asked twice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from evaluating import Asking, Interrupting, Watching, last_line, verb
from tokenizers import Tokenizer as Backend

from foundling import hamlet
from foundling.base.config import Section
from foundling.data.prepare import prepare
from foundling.evaluation.evaluate import CACHE, ITEMS, EvaluateConfig, evaluate, parse_evaluation
from foundling.evaluation.model_scorer import load_scorer
from foundling.evaluation.probes import PROBES
from foundling.evaluation.probes import find as finding
from foundling.evaluation.probes.find import find_probes
from foundling.evaluation.village import has_read_village
from foundling.models import interchange
from foundling.runs.run import find_model
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.text.tokenizer import Tokenizer

# ------------------------------------------------------------------ the whole


@pytest.mark.parametrize(
    "names",
    [
        ("common_sense", "bias", "refusal"),
        pytest.param(tuple(probe.name for probe in PROBES), marks=pytest.mark.slow),
    ],
)
def test_two_models_side_by_side(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...]
) -> None:
    (tmp_path / "data").mkdir()
    command = [*made, "--limit", 4, "--out", tmp_path / "out", "--shots", "0,2",
               "--num-samples", 2, "--data-root", tmp_path / "data", "--json",
               *([] if len(names) == len(PROBES) else ["--probes", ",".join(names)])]  # fmt: skip
    assert verb(*command) == 0
    captured = capsys.readouterr()
    found = last_line(captured.out)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == found
    assert "report: " in captured.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert [subject["name"] for subject in found["subjects"]] == made
    assert [probe["name"] for probe in found["probes"]] == list(names)
    assert len({subject["fingerprint"] for subject in found["subjects"]}) == 2
    assert found["setting"]["limit"] == 4
    for probe in found["probes"]:
        assert probe["title"] in page
        assert probe["metrics"] or all("not measured" in one[0] for one in probe["notes"].values())
        for metric in probe["metrics"]:
            assert set(metric["values"]) <= set(made)
            for one in metric["values"].values():
                if one["n"] > 1 and one["num_groups"] > 1:
                    assert one["low"] <= one["value"] <= one["high"]
                    assert one["standard_error"] >= 0
            for pair in metric["differences"]:
                assert 0 < pair["p_value"] <= pair["adjusted_p_value"] <= 1


def test_a_second_time_nothing_is_asked(made: list[str], tmp_path: Path) -> None:
    setting, probes = parse_evaluation(
        {"limit": 2, "probes": ["language_modelling", "refusal"], "in_context": {"shots": [0, 2]}}
    )
    first, second, more = Watching(), Watching(), Watching()
    found = evaluate(made, probes, setting, tmp_path, watch=first)
    assert all(count > 0 for count in first.asked.values())
    assert set(first.asked) == {f"{source}: {probe.title}" for source in made for probe in probes}
    assert evaluate(made, probes, setting, tmp_path, watch=second) == found
    assert set(second.asked.values()) == {0}
    evaluate(made[:1], [*probes, Asking()], setting, tmp_path, watch=more)
    assert {what for what, count in more.asked.items() if count} == {f"{made[0]}: Asking"}
    torch.manual_seed(9)
    other = Path(tmp_path) / "other"
    other.mkdir()
    model = interchange.load(Path(made[0]))
    with torch.no_grad():
        model.unembed.weight += 0.1
    interchange.save(model, other)
    Tokenizer.load(made[0]).save(other)
    changed = Watching()
    evaluate([str(other)], [Asking()], setting, tmp_path, watch=changed)
    assert changed.asked == {f"{other}: Asking": 2}


def test_an_interruption_is_resumed(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(finding, "PROBES", (Asking(), Interrupting()))
    assert verb(made[0], "--out", tmp_path, "--probes", "asking,interrupting") == 130
    assert "The same command resumes it." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [CACHE]
    again = Watching()
    evaluate(made[:1], [Asking()], EvaluateConfig(), tmp_path, watch=again)
    assert again.asked == {f"{made[0]}: Asking": 0}
    # Of the interrupted probe, what was answered is kept too.
    with pytest.raises(KeyboardInterrupt):
        evaluate(made[:1], [Interrupting()], EvaluateConfig(), tmp_path, watch=again)
    assert again.asked[f"{made[0]}: Interrupting"] == 0


@pytest.mark.slow
def test_a_run_is_measured_at_its_best_checkpoint(
    tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    run = pretrain(tiny("training.steps=5"), tmp_path / "run").folder
    paths = str(run), str(find_model(run))
    found = evaluate(paths, [Asking()], EvaluateConfig(), tmp_path / "out")
    assert [subject["max_context"] for subject in found["subjects"]] == [16, 16]
    assert len({subject["fingerprint"] for subject in found["subjects"]}) == 1
    (metric,) = found["probes"][0]["metrics"]
    assert metric["values"][paths[0]] == metric["values"][paths[1]]
    assert metric["differences"][0]["value"] == 0


def test_an_option_that_no_chosen_probe_reads_is_named(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("A hen.")
    text = ["--text", tmp_path / "a.txt", "--limit", 1, "--out", tmp_path / "out"]
    assert verb(made[0], "--probes", "bias", *text) == 0
    said = "--text: read by language_modelling, not among --probes."
    told = capsys.readouterr().err
    assert said in told
    assert "no headline figure" in told  # without the file of pairs
    assert verb(made[0], "--probes", "language_modelling", *text) == 0
    assert said not in capsys.readouterr().err
    (tmp_path / "p.jsonl").write_text('{"prompt": "Who sang?"}')
    assert verb(made[0], "--probes", "bias", *text, "--prompts", tmp_path / "p.jsonl") == 0
    said = "--prompts: read by toxicity and refusal, not among --probes."
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_model_folder_with_tokens_of_turns_is_asked_in_turns_and_it_is_said(
    made: list[str], said: list[str]
) -> None:
    assert load_scorer(made[0]).chats
    assert [text for text in said if "give --no-chat" in text]
    said.clear()
    assert not load_scorer(made[0], chats=False).chats
    assert said == []


def test_a_task_folder_may_hold_folders(made: list[str], tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / ".ipynb_checkpoints").mkdir(parents=True)
    (own / "examples.csv").write_text("text,label\n")
    setting = EvaluateConfig()

    class AskingOf(Asking, Section):
        tasks: tuple[Path, ...] = (own,)

    files = [evaluate(made[:1], [AskingOf()], setting, tmp_path / "out")["setting"]["files"]]
    (own / "examples.csv").write_text("text,label\na,b\n")
    files.append(evaluate(made[:1], [AskingOf()], setting, tmp_path / "out")["setting"]["files"])
    assert [*files[0]] == [*files[1]] == [str(own)]
    assert files[0] != files[1]


def test_weighted_means_of_other_weights_are_not_compared(made: list[str], tmp_path: Path) -> None:
    """Nats a token of two tokenizers."""
    other = tmp_path / "other"
    shutil.copytree(made[0], other)
    Tokenizer.train_bytes([hamlet.text(40_000, 1)], 400).save(other)
    probes, setting = find_probes(["language_modelling"]), EvaluateConfig(limit=2)
    found = evaluate([*made, str(other)], probes, setting, tmp_path / "out")
    compared = {
        metric["key"]: [(one["first"], one["second"]) for one in metric["differences"]]
        for metric in found["probes"][0]["metrics"]
    }
    assert len(compared["village.bits_per_byte"]) == 3
    assert compared["village.nats"] == [(made[0], made[1])]


# ------------------------------------------------------------------ item by item


def test_every_item_stands_in_a_file(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"query": f"{n} and", "choices": ["one", "two"], "gold": n % 2} for n in range(6)]
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Who sang?", "refuse": false}\n')
    command = [made[0], "--probes", "in_context,refusal", "--task", file, "--only-task",
               "--shots", "0,2", "--prompts", prompts, "--no-village", "--no-begin-mark",
               "--out", tmp_path / "out", "--json"]  # fmt: skip
    assert verb(*command) == 0
    captured = capsys.readouterr()
    found = last_line(captured.out)
    assert {metric["key"].split(".")[0] for metric in found["probes"][0]["metrics"]} == {"sums"}
    assert "with the most examples that fit" in captured.err  # the named task is the headline
    assert found["subjects"][0]["begin_mark"] == ""
    lines = [json.loads(line) for line in (tmp_path / "out" / ITEMS).read_text().splitlines()]
    asked, written = lines[:6], lines[6:]
    for row in asked:
        assert row["model"] == made[0]
        assert row["set"] == "sums, 2 examples"
        assert row["prompt"].count(" and") == 3
        assert row["choices"] == [" one", " two"]
        scores = row["scores"]["sum"]
        assert row["answer"] == scores.index(max(scores))
        assert row["outcome"] == float(row["answer"] == row["gold"])
    (row,) = written
    assert row["prompt"].startswith("<|begin_of_text|><|user|>Who sang?")  # as the model reads it
    assert set(row) == {"model", "probe", "set", "id", "prompt", "answer", "outcome"}


def test_without_examples_the_named_task_is_the_headline(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text('{"query": "1 and", "choices": ["one", "two"], "gold": 0}\n' * 3)
    command = [*made, "--probes", "in_context", "--task", file, "--only-task", "--shots", "0",
               "--out", tmp_path / "out", "--json"]  # fmt: skip
    assert verb(*command) == 0
    captured = capsys.readouterr()
    assert "without examples" in captured.err
    assert "p = " in captured.err  # of the difference between the models
    first = last_line(captured.out)["probes"][0]["metrics"][0]
    assert [value["num_groups"] for value in first["values"].values()] == [1, 1]  # one item, thrice
    assert verb(made[0], "--probes", "in_context", "--only-task", "--out", tmp_path / "out") == 2
    assert "only_tasks: give tasks too" in capsys.readouterr().err


# ------------------------------------------------------------------ the village


def test_the_village_is_asked_of_those_who_read_of_it(
    made: list[str], village: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tokenizer = Tokenizer.load(made[0])
    assert has_read_village(Path(made[0]), tokenizer)  # one of ours, and nothing says otherwise
    backend = Backend.from_str(tokenizer._backend.to_str().replace("<|system|>", "<|other|>"))
    other = Tokenizer(backend, tokenizer.begin_name, tokenizer.end_name, None)
    assert not has_read_village(Path(made[0]), other)
    (tmp_path / "hens.txt").write_text("The hen sat in the yard and the duck swam.\n" * 200)
    prepare([tmp_path / "hens.txt"], tmp_path / "store", vocab_size=300, validation_tail=0.1)
    asked = {}
    for name, store in (("village", village), ("hens", tmp_path / "store")):
        config = tiny("training.steps=1").model_copy(update={"data": str(store)})
        run = pretrain(config, tmp_path / name).folder
        asked[name] = has_read_village(find_model(run), Tokenizer.load(find_model(run)))
    assert asked == {"village": True, "hens": False}
    mixture = tmp_path / "mixture.toml"
    mixture.write_text(f'[[sources]]\ndata = "{tmp_path / "moved"}"')
    (tmp_path / "moved").symlink_to(village)
    config = tiny("training.steps=1").model_copy(update={"data": str(mixture)})
    model = find_model(pretrain(config, tmp_path / "mixed").folder)
    (tmp_path / "moved").unlink()
    assert has_read_village(model, tokenizer)  # its text is gone, and its tokenizer one of ours
    assert not has_read_village(model, other)
    command = [tmp_path / "hens", "--probes", "common_sense,language_modelling", "--limit", 2,
               "--out", tmp_path / "out", "--json"]  # fmt: skip
    assert verb(*command) == 0
    captured = capsys.readouterr()
    assert "has not read of the village" in captured.err
    found = last_line(captured.out)
    assert not found["subjects"][0]["village"]
    assert "village" not in json.dumps([probe["metrics"] for probe in found["probes"]])
    assert verb(*command, "--village") == 0
    assert "village" in json.dumps(last_line(capsys.readouterr().out)["probes"][1]["metrics"])
