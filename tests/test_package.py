"""What is installed: everything that lies in the package, and a program that works."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import foundling

ROOT = Path(foundling.__file__).parent.parent
SMALL = (
    "context=256", "model.rung=transformer", "model.dim=16", "model.num_layers=1",
    "model.num_heads=2", "training.steps=2", "training.batch_size=4", "validation.max_tokens=200",
)  # fmt: skip


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder.parent).as_posix() for path in found}


@pytest.mark.slow
def test_the_built_package_holds_everything_and_works_alone(tmp_path: Path) -> None:
    source, wheels, installed = tmp_path / "source", tmp_path / "wheels", tmp_path / "installed"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "foundling", source / "foundling")

    def run(*command: object, path: Path | None = None) -> str:
        environment = {**os.environ, "PYTHONPATH": str(path or ""), "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    offline = ("--no-deps", "--no-index")
    run(*pip, "wheel", *offline, "--no-build-isolation", "-w", wheels, source)
    (wheel,) = wheels.iterdir()
    assert wheel.name == f"foundling-{foundling.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == files_below(ROOT / "foundling")
    assert any(name.endswith("licenses/LICENSE") for name in names)

    run(*pip, "install", *offline, "--target", installed, wheel)
    program = installed / "bin" / "foundling"

    def verb(*arguments: object) -> str:
        return run(sys.executable, program, *arguments, path=installed)

    where = run(sys.executable, "-c", "import foundling; print(foundling.__file__)", path=installed)
    assert Path(where.strip()).is_relative_to(installed)
    assert verb("--version") == f"foundling {foundling.__version__}\n"
    verb("data", "hamlet", "world", "--megabytes", 0.1, "--instructions", 20, "--prompts", 0,
         "--held-out-prompts", 0)  # fmt: skip
    verb("data", "prepare", "world/text.jsonl", "--out", "data", "--vocab-size", 300,
         "--validation-fraction", 0.1)  # fmt: skip
    (tmp_path / "run.toml").touch()
    settings = [f"--set={setting}" for setting in SMALL]
    verb("pretrain", "run.toml", "--data", "data", "--out", "run", *settings)
    verb("data", "preview", "world/instructions.jsonl", "--rows", 1, "--from", "run",
         "--html", "preview.html")  # fmt: skip
    verb("attention", "run", "--text", "Ida came.", "--out", "attention.html")
    verb("evaluate", "run", "--probes", "toxicity", "--limit", 2, "--out", "evaluation")
    for page in ("run/report.html", "preview.html", "attention.html", "evaluation/report.html"):
        assert "<style" in (tmp_path / page).read_text("utf-8")
