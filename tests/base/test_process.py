"""Ctrl-C at many moments, text that is not UTF-8, and a launcher of several processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

START = "import os, signal, sys; from foundling.__main__ import main\n"
AT_IMPORT = """
left = int(sys.argv.pop(1))
def hook(event, arguments):
    global left
    left -= event == "import"
    if event == "import" and left == 0:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
main()
"""
LINE = "interrupted."


def program(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", START + code, *map(str, arguments)]


def pretrain(village: Path, out: Path) -> list[object]:
    config = out.with_suffix(".toml")
    config.write_text('[model]\nrung = "next_word"\ndim = 8\n')
    settings = ("context=16", "training.steps=2000", "training.batch_size=4")
    given = [f"--set={setting}" for setting in settings]
    return ["pretrain", config, "--data", village, "--out", out, *given]


@pytest.mark.parametrize("moment", [1, 60, 700, 1400])
def test_an_interrupt_while_modules_are_imported_is_one_line(
    moment: int, village: Path, tmp_path: Path
) -> None:
    command = program(AT_IMPORT, moment, *pretrain(village, tmp_path / "run"))
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", LINE + "\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "verb", [("data", "prepare", "TEXT", "--out", "OUT"), ("generate", "OUT"), ("--help",)]
)
def test_an_interrupt_of_any_verb_is_one_line(verb: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "TEXT").write_text("A text.\n" * 99)
    command = program(AT_IMPORT, 120, *verb)
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", LINE + "\n")
    assert [path.name for path in tmp_path.iterdir()] == ["TEXT"]


def test_an_interrupt_within_a_finalizer_is_not_lost() -> None:
    code = """
from foundling.base.process import guard_interrupts, interruptible
class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
guard_interrupts()
with interruptible():
    Finalized()
    print("went on")
"""
    ended = subprocess.run(program(code), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", LINE + "\n")


def test_a_verb_can_clean_up_once() -> None:
    code = """
from foundling.base.process import guard_interrupts, interruptible
guard_interrupts()
try:
    with interruptible():
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("cleaned up", flush=True)
    signal.raise_signal(signal.SIGINT)
print("went on")
"""
    ended = subprocess.run(program(code), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (130, "cleaned up\n")
    assert ended.stderr == LINE + "\n"


@pytest.mark.slow
def test_an_interrupt_at_any_of_forty_moments_is_one_line(village: Path, tmp_path: Path) -> None:
    for number in range(40):
        out = tmp_path / f"run-{number}"
        command = program("print(flush=True); main()", *pretrain(village, out))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep((number + 0.5) * 0.075)  # it is still on its way to `main` for a moment
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        assert process.returncode == 130, (number, errors)
        assert [line for line in errors.splitlines() if LINE[:-1] in line] == errors.splitlines()[
            -1:
        ], (number, errors)
        assert "Traceback" not in errors, (number, errors)


@pytest.mark.parametrize(
    ("given", "option", "message"),
    [
        (b"caf\xe9", "-", "error: standard input: not UTF-8 text.\n"),
        (b"", b"caf\xe9", "error: argument 'caf\\udce9': not UTF-8 text.\n"),
    ],
)
@pytest.mark.parametrize("locale", ["C.UTF-8", "POSIX"])
@pytest.mark.parametrize("verb", [("generate", "RUN", "--prompt"), ("attention", "RUN", "--text")])
def test_text_that_is_not_utf8_is_one_line(
    verb: Sequence[str], locale: str, given: bytes, option: str | bytes, message: str
) -> None:
    environment = {**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [*program("main()"), *verb, option]
    ended = subprocess.run(command, input=given, capture_output=True, env=environment)
    assert (ended.returncode, ended.stdout.decode()) == (2, "")
    assert ended.stderr.decode() == message


def test_verbs_that_do_not_train_refuse_to_be_several_processes(tmp_path: Path) -> None:
    command = program("main()", "ladder", "--data", "data", "--out", "run")
    environment = {**os.environ, "WORLD_SIZE": "2", "RANK": "0"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: WORLD_SIZE = 2: ")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
