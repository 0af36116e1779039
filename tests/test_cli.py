"""The command line as a user meets it: verbs, exit codes, one-line errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from foundling import cli, hamlet
from foundling.runs.run import Run

SMALL = (
    "--set=context=16",
    "--set=model.dim=16",
    "--set=model.num_layers=1",
    "--set=model.num_heads=2",
    "--set=training.steps=6",
    "--set=training.batch_size=4",
    "--set=validation.every=3",
    "--set=validation.max_tokens=200",
    "--set=validation.sample_tokens=4",
)


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


@pytest.fixture
def empty_config(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text('[model]\nrung = "transformer"\n')
    return tmp_path / "run.toml"


def last_json(captured: str) -> dict:
    return json.loads(captured.strip().splitlines()[-1])


def test_from_text_to_generation(
    tmp_path: Path, empty_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(hamlet.text(40_000, seed=3))
    prepare = ("data", "prepare", tmp_path / "text.txt", "--out", tmp_path / "data", "--json")
    assert call(*prepare, "--vocab-size", 300, "--validation-tail", 0.1) == 0
    report = last_json(capsys.readouterr().out)
    assert report["train"]["bytes"] + report["validation"]["bytes"] >= 40_000

    assert call("data", "verify", tmp_path / "data") == 0
    shard = tmp_path / "data" / "train-00000.bin"
    content = shard.read_bytes()
    shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert call("data", "verify", tmp_path / "data") == 2
    assert "train-00000.bin" in capsys.readouterr().err
    shard.write_bytes(content)

    run = tmp_path / "runs" / "first"
    command = ("pretrain", empty_config, "--data", tmp_path / "data", "--out", run, "--json")
    assert call(*command, *SMALL) == 0
    captured = capsys.readouterr()
    assert last_json(captured.out)["step"] == 6
    assert "validation at step 3" in captured.err
    for name in ("config.toml", "manifest.json", "metrics.jsonl", "report.html", "plots/loss.png"):
        assert (run / name).stat().st_size > 0

    assert call("pretrain", "--resume", "--out", run, "--set", "training.steps=8") == 0
    assert "steps = 8" in (run / "config.toml").read_text()
    assert call("runs", tmp_path / "runs", "--json") == 0
    assert last_json(capsys.readouterr().out)["runs"][0]["step"] == 8

    generate = ("generate", run, "--prompt", "The ", "--max-tokens", 5, "--seed", 3)
    assert call(*generate) == 0
    text = capsys.readouterr().out
    assert text.startswith("The ")
    assert call(*generate, "--json", "--num-samples", 2) == 0
    samples = last_json(capsys.readouterr().out)["samples"]
    assert text.rstrip("\n") == "The " + samples[0]["text"].rstrip("\n")
    assert samples[1]["seed"] == 4
    assert call("report", run) == 0
    capsys.readouterr()
    assert call("generate", run, "--prompt", "The ", "--max-tokens", 999) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_ladder_stands_side_by_side_and_goes_on(
    village: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("ladder", "--data", village, "--out", tmp_path / "ladder", "--json")
    command = (*command, *SMALL, "--set=followers.report=false")
    assert call(*command, "--set-rung", "transformer:model.num_layers=2") == 0
    result = last_json(capsys.readouterr().out)
    assert [row["rung"] for row in result["rows"]] == [
        "next_word",
        "finite_lag",
        "bag_of_words",
        "attention",
        "transformer",
    ]
    assert all(len(row["loss_by_position"]) == 16 for row in result["rows"])
    assert (tmp_path / "ladder" / "report.html").stat().st_size > 0
    assert call(*command) == 2
    assert call(*command, "--resume", "--set-rung", "transformer:model.num_layers=2") == 0
    again = last_json(capsys.readouterr().out)
    assert [r["loss_nats"] for r in again["rows"]] == [r["loss_nats"] for r in result["rows"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "none.toml", "--out", "x"], "none.toml: no such config file"),
        (["pretrain", "--out", "x"], "CONFIG: give a TOML file"),
        (["pretrain", "--resume", "--out", "x"], "nothing to resume"),
        (["generate", "nowhere"], "neither a run, a checkpoint nor a model folder"),
        (["runs", "nowhere"], "holds no run"),
        (["report", "nowhere"], "nowhere"),
        (["data", "prepare", "x.txt", "--out", "/proc/nope/x"], "/proc/nope"),
        (["data", "prepare", "x", "--out", "o", "--tokenizer=characters", "--vocab-size=9"], "own"),
        (["ladder", "--data", "d", "--out", "x", "--set-rung", "top:a=1"], "--set-rung top:a=1"),
        (["data", "prepare", "no.txt", "--out", "x"], "no.txt"),
    ],
)
def test_faults_of_the_input_are_one_line_and_exit_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_setting_is_refused_before_anything_is_written(
    village: Path, tmp_path: Path, empty_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("pretrain", empty_config, "--data", village, "--out", tmp_path / "run")
    assert call(*command, "--set", "training.stepz=3") == 2
    assert 'Did you mean "steps"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_settings(
    village: Path, tmp_path: Path, empty_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    quick = (*SMALL, "--set=followers.report=false")
    assert call("pretrain", empty_config, "--data", village, "--out", run, *quick) == 0
    assert call("pretrain", empty_config, "--resume", "--out", run) == 2
    assert "give no CONFIG" in capsys.readouterr().err
    assert call("pretrain", "--resume", "--out", run, "--set", "model.dim=32") == 2
    assert "a resumed run keeps its settings" in capsys.readouterr().err


def test_runs_shows_what_the_guard_did_within_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    manifest = {
        "stage": "pretrain", "parent": None, "model": {"rung": "bag_of_words"},
        "num_parameters": 10_795_776,
    }  # fmt: skip
    for name in ("quiet", "a-run-with-quite-a-long-name"):
        run = Run.create(tmp_path / name, "[training]\nsteps = 10000\n", manifest)
        run.append({"split": "train", "step": 10_000, "loss_nats": 3.0})
        loss = {"loss_nats": 3.0854, "bits_per_byte": 1.2033}
        run.append({"split": "validation", "step": 10_000, **loss})
    for number, first in ((1, 0), (2, 4), (3, 2)):
        kind = "rewind" if number == 3 else "skip"
        event = {"kind": kind, "step": 5, "skipped": [first, first + 4]}
        run.log({"id": number, "phase": "intent", **event})
        run.log({"id": number, "phase": "commit"})
    assert call("runs", tmp_path, "--json") == 0
    captured = capsys.readouterr()
    acted, quiet = last_json(captured.out)["runs"]
    assert (quiet["guard"], quiet["samples_left_out"]) == ({}, 0)
    assert (acted["guard"], acted["samples_left_out"]) == ({"skip": 2, "rewind": 1}, 8)
    lines = [line.rstrip() for line in captured.err.splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[-1] == "guard"
    figures = ["bag_of_words", "10.80M", "10,000/10,000", "3.0854", "1.2033"]
    second = next(place for place, line in enumerate(lines) if line.startswith("quiet"))
    assert lines[second].split()[1:] == [*figures, "–"]
    rows = lines[2:second]  # the long name and the acts take several lines
    assert "".join(row.split("  ")[0] for row in rows) == "a-run-with-quite-a-long-name"
    assert rows[0].split()[1:] == [*figures, "2", "skips"]
    assert rows[1].endswith("1 rewind")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("ladder --data a --data b --out c", "--data"),
        ("dpo --out a --out b", "--out"),
        ("dpo --format x --out a --format y", "--format"),
        ("sft --out a --from b --from c", "--from"),
        ("data preview a --from b --rows 1 --rows=2", "--rows"),
        ("evaluate a --chat --no-chat", "--chat"),
        ("preferences stats a --seed 1 --seed 1", "--seed"),
    ],
)
def test_an_option_is_given_once(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*command.split()) == 2
    assert capsys.readouterr().err == f"error: {option}: was given 2 times; give one.\n"


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ("data = 5", "sft FILE --data a --out b"),
        ("leasing = 3", "compare --config FILE --overlap 2"),
        ("in_context = 3", "evaluate a --config FILE --shots 0,1"),
        ("task = 3", "adapt a --config FILE --out b"),
    ],
)
def test_a_value_where_a_section_belongs_is_one_line(
    settings: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text(settings)
    assert call(*command.split()) == 2
    said = capsys.readouterr().err
    assert settings in said
    assert "section" in said
    assert said.count("\n") == 1


def test_help_imports_neither_torch_nor_pydantic() -> None:
    code = (
        "import sys; from foundling import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "pretrain" in result.stdout


def test_importing_the_package_touches_nothing() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import foundling.stages.pretrain, foundling.experiments.ladder, foundling.experiments.demo"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""


def test_from_a_pretrained_run_to_answers(
    village: Path, tmp_path: Path, empty_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    longer = ("--set=context=64", "--set=training.steps=3", "--set=followers.report=false")
    assert call("pretrain", empty_config, "--data", village, "--out", base, *SMALL, *longer) == 0
    file = tmp_path / "rows.jsonl"
    rows = [{"instruction": f"Say {n}.", "output": f"{n}!", "topic": "n"} for n in range(40)]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    page = tmp_path / "preview.html"
    preview = ("data", "preview", file, "--from", base, "--rows", "2,4-5", "--html", page)
    assert call(*preview) == 2
    assert f"{file}:41" in capsys.readouterr().err
    assert call(*preview, "--on-error", "skip") == 0
    captured = capsys.readouterr()
    assert "Say 3." in captured.out
    assert "ignored columns: topic" in captured.err
    assert "rows.jsonl:2" in page.read_text()
    other = ["41" if word == "2,4-5" else word for word in preview]
    assert call(*other, "--on-error", "skip") == 2
    assert "rows 1 to 40" in capsys.readouterr().err

    command = ("sft", "--from", base, "--data", file, "--set", "training.steps=2")
    assert call(*command, "--out", tuned) == 2
    assert not tuned.exists()
    assert call(*command, "--out", tuned, "--on-error", "skip", "--json") == 0
    summary = last_json(capsys.readouterr().out)
    assert (summary["stage"], summary["step"]) == ("sft", 2)
    assert call("sft", "--resume", "--out", tuned, "--from", base) == 2
    assert call("pretrain", "--resume", "--out", tuned) == 2
    capsys.readouterr()
    assert call("sft", "--resume", "--out", tuned, "--set", "training.steps=3") == 0
    assert call("chat", tuned, "--message", "Say 3.", "--max-tokens", 4, "--json") == 0
    messages = last_json(capsys.readouterr().out)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]

    swept = (*command, "--out", tmp_path / "sweep", "--on-error", "skip")
    assert call(*swept, "--sweep", "lambda=0,0.5", "--json") == 0
    result = last_json(capsys.readouterr().out)
    assert [row["value"] for row in result["rows"]] == ["0", "0.5"]
    assert (tmp_path / "sweep" / "report.html").stat().st_size > 0
    for wrong in ("lambda", "lambda=", "lambda=1,1", "anchor.nothing=1"):
        assert call(*command, "--out", tmp_path / "other", "--sweep", wrong) == 2
