"""Foundling from Python: the front door, and the code of docs/python.md."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from tiny import TINY

import foundling
from foundling import hamlet
from foundling.base.config import load_toml
from foundling.generation.sampling import Sampling

ROOT = Path(foundling.__file__).parent.parent


def code_of(page: Path) -> str:
    """All Python of a page, on the lines where it stands."""
    lines, inside = [], False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "python.md"
    exec(compile(code_of(page), str(page), "exec"), {"__name__": "page"})
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"base", "answers", "polite"}


@pytest.fixture(scope="module")
def run(village: Path, tmp_path_factory: pytest.TempPathFactory) -> foundling.TrainedRun:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    settings = {**TINY, "followers": {"report": True}}
    return foundling.pretrain(settings, data=village, out=out, context=64, training={"steps": 4})


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, foundling\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'typer', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_name_is_there_and_no_other() -> None:
    assert set(foundling.__all__) <= set(dir(foundling))
    assert all(getattr(foundling, name) is not None for name in foundling.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        foundling.lode  # noqa: B018


def test_keywords_mean_what_set_means(
    run: foundling.TrainedRun, village: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text((run.folder / "config.toml").read_text())
    again = foundling.pretrain(
        tmp_path / "tiny.toml", out=tmp_path / "again", **{"training.steps": 2, "seed": None}
    )
    settings = load_toml(again.folder / "config.toml")
    assert settings.pop("training") == {**load_toml(tmp_path / "tiny.toml")["training"], "steps": 2}
    assert settings == {k: v for k, v in load_toml(tmp_path / "tiny.toml").items() if k in settings}
    resumed = foundling.pretrain(out=tmp_path / "again", resume=True, training={"steps": 3})
    assert resumed.summary()["step"] == 3


def test_values_of_python_are_taken_as_they_are(
    run: foundling.TrainedRun, village: Path, tmp_path: Path
) -> None:
    prompts = ["The 😀", 'a"b\\', "\x7f"]
    asked = {"prompts": prompts, "every": np.int64(1)}
    rows = tmp_path / "rows.jsonl"
    lines = [f'{{"prompt": "{n}", "completion": "b"}}' for n in range(30)]
    rows.write_text("\n".join(lines))
    options = {"training": {"steps": 1}, "data.files": [rows]}  # which win over the parameter
    tuned = foundling.sft(
        run.folder, "nowhere.jsonl", tmp_path / "tuned", adapter={}, validation=asked, **options
    )
    settings = load_toml(tuned.folder / "config.toml")
    assert settings["validation"]["prompts"] == prompts
    assert settings["adapter"]["rank"] > 0
    wrong = {"prompts": ["a", None]}
    with pytest.raises(foundling.ConfigError, match=r"prompts.1 = null"):
        foundling.pretrain(TINY, data=village, out=tmp_path / "none", validation=wrong)


def test_one_input_or_several_are_prepared(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(hamlet.text(20_000, seed=3))
    options = {"vocab_size": 300, "validation_tail": 0.1}
    made = [
        foundling.prepare(inputs, tmp_path / name, **options)
        for name, inputs in (("one", str(text)), ("several", [text]))
    ]
    assert made[0].manifest.train == made[1].manifest.train


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"stepz": 1}}, 'Did you mean "steps"'),
        ({"resume": True}, "nothing to resume"),
        ({"resume": True, "parent": "x"}, "keeps the parent"),
        ({"config": "none.toml"}, "no such config file"),
    ],
)
def test_faults_are_one_line_and_write_nothing(
    values: dict[str, Any], message: str, village: Path, tmp_path: Path
) -> None:
    with pytest.raises(foundling.ConfigError, match=message) as error:
        foundling.train("pretrain", out=tmp_path / "run", data=village, **values)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(foundling.ConfigError, match='Did you mean "pretrain"'):
        foundling.train("pretrian", out=tmp_path / "run")


def test_a_run_writes_as_its_model_does(run: foundling.TrainedRun) -> None:
    engine = foundling.load(run.folder, device="cpu")
    text = engine.generate("The ", max_tokens=8, temperature=0.7, top_k=20, seed=3)
    sampling = Sampling(temperature=0.7, top_k=20, seed=3)
    assert text == engine.generate("The ", max_tokens=8, sampling=sampling)
    assert text == run.generate("The ", max_tokens=8, temperature=0.7, top_k=20, seed=3)
    assert run.model() is run.model()
    assert run.report.is_file()
    with pytest.raises(foundling.ConfigError, match='Did you mean "temperature"'):
        engine.generate("The ", temprature=0.7)


def test_from_rows_to_answers_and_what_is_liked(run: foundling.TrainedRun, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {n}.", "completion": f"{n}!"} for n in range(30)]
    pairs = [{"prompt": f"Say {n}.", "chosen": f"{n}!", "rejected": "No."} for n in range(30)]
    for name, listed in (("rows", rows), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, listed)))
    short = {"training": {"steps": 2}, "validation": {"prompts": []}}
    tuned = foundling.sft(run.folder, tmp_path / "rows.jsonl", tmp_path / "tuned", **short)
    assert (tuned.summary()["stage"], tuned.summary()["step"]) == ("sft", 2)
    asked = {"role": "user", "content": "Say 3."}
    assert tuned.chat([asked], max_tokens=4, seed=1) == tuned.chat("Say 3.", max_tokens=4, seed=1)
    liked = foundling.dpo(tuned.folder, [tmp_path / "pairs.jsonl"], tmp_path / "liked", **short)
    assert liked.summary()["stage"] == "dpo"


class Length(foundling.Section):
    """Whether a short word is likelier than a long one."""

    name: ClassVar = "length"
    title: ClassVar = "Length"
    about: ClassVar = "Whether a short word is likelier than a long one."
    short: str = "a"

    def run(self, scorer: Any, setting: Any) -> foundling.Findings:
        short, long = scorer.score([("The", f" {self.short}"), ("The", " interminable")])
        outcomes = {"one": float(short.log_prob > long.log_prob)}
        metric = foundling.Metric("length.accuracy", "Short", outcomes, headline=True)
        return foundling.Findings([metric])


def test_a_probe_of_ones_own_is_measured(run: foundling.TrainedRun, tmp_path: Path) -> None:
    found = foundling.evaluate(run.folder, out=tmp_path / "found", probes=[Length(short="o")])
    assert found.figures() == {"length.accuracy": {str(run.folder): 1.0}}
    assert found.table.row_count == 2
    assert found.report.is_file()
    with pytest.raises(foundling.ConfigError, match="limit"):
        foundling.evaluate(run.folder, out=tmp_path / "other", probes=[Length], limit=-1)


def test_two_probes_of_one_name_are_refused(
    run: foundling.TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for probes in (
        [Length(), Length(short="o")],
        ["bias", type("Twin", (Length,), {"name": "bias"})],
    ):
        with pytest.raises(foundling.ConfigError, match="two probes named"):
            foundling.evaluate(run.folder, out=tmp_path / "found", probes=probes)
    assert not (tmp_path / "found").exists()


def test_a_program_without_logging_sees_what_is_reported(
    run: foundling.TrainedRun, tmp_path: Path
) -> None:
    code = """
import sys, foundling
for name in ("one", "two"):
    foundling.evaluate(sys.argv[1], out=name, probes=["refusal"], limit=1)
"""
    command = [sys.executable, "-c", code, str(run.folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.endswith("…")]
    assert lines == [f"{run.folder}: Refusal …"] * 2


@pytest.mark.slow
def test_the_comparison_page_is_served_beside_the_program(
    run: foundling.TrainedRun, tmp_path: Path
) -> None:
    prompts, database = tmp_path / "prompts.txt", tmp_path / "votes.db"
    prompts.write_text("The miller\nThe baker\n")
    answers = {"max_tokens": 4}
    for _ in range(2):  # a second page in one process
        with foundling.compare(
            run.folder, run.folder, prompts=prompts, db=database, port=0, answers=answers
        ) as page:
            assert b"<html" in urllib.request.urlopen(page.url).read()
            assert page.statistics()["counts"]["comparisons"] == 0
    with pytest.raises(foundling.ConfigError, match="nowhere"):
        foundling.compare(run.folder, "nowhere", prompts=prompts, db=tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ladder", "fine_tune", "votes_and_dpo"])
def test_the_notebooks_run(name: str, tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert not any(c.get("outputs") for c in notebook["cells"])
    environment = {**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", "\n\n".join(cells)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
