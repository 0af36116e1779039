"""`foundling serve` asked wrongly: one line says why, before anything is served."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from foundling import cli


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "nowhere"),
        (["MODEL", "--name", "a", "--name", "b"], "--name: 2 names for 1 models"),
        (["MODEL", "MODEL"], "2 models have this name"),
        (["MODEL", "--host", "0.0.0.0"], "without a key"),
        (["MODEL", "--host", "no such host", "--api-key", "k"], "no such address"),
        (["MODEL", "--port", "70000"], "--port 70000: give one"),
        (["MODEL", "--api-key", ""], "--api-key: a key has"),
        (["MODEL", "--api-key", "a b"], "--api-key: a key has"),
        (["MODEL", "--api-key-file", "none.txt"], "none.txt: cannot be read"),
        (["MODEL", "--api-key-file", "empty.txt"], "empty.txt: holds no key"),
        (["MODEL", "--timeout", "0"], "timeout = 0"),
        (["MODEL", "--max-loaded", "0"], "max_loaded = 0"),
        (["MODEL", "--template", "none"], "none"),
        (["MODEL", "--device", "tpu"], 'device = "tpu"'),
        (["MODEL", "--public-url", "models.example"], "https://HOST:PORT"),
        (["MODEL", "--set", "engine.max_btch=2"], 'Did you mean "max_batch"?'),
        (["MODEL", "--config", "none.toml"], "none.toml: no such config file"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOUNDLING_API_KEY", raising=False)
    (tmp_path / "empty.txt").write_text("\n\n")
    given = [str(tiny_model) if option == "MODEL" else option for option in options]
    command = ["serve", *given, *([] if "--port" in options else ["--port", "0"])]
    assert cli.exit_code(lambda: cli.app(command)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_port_in_use_is_one_line(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = ["serve", str(tiny_model), "--port", str(taken.getsockname()[1])]
        assert cli.exit_code(lambda: cli.app(command)) == 2
    assert "is in use; give another one" in capsys.readouterr().err


def test_help_loads_no_web_server() -> None:
    code = (
        "import sys; from foundling import cli\n"
        "assert cli.exit_code(lambda: cli.app(['serve', '--help'])) == 0\n"
        "assert not {'torch', 'fastapi', 'uvicorn', 'prometheus_client'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
