"""A crawl that is interrupted, continued, changed, or left with nothing; and one on Slurm."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("datatrove", reason='pip install "foundling[web]"')

from web_pages import articles, edited, write_pages

from foundling import cli
from foundling.base.config import ConfigError, override
from foundling.data.crawl.crawl import crawl
from foundling.data.crawl.settings import CrawlConfig

COMMAND = [sys.executable, "-m", "foundling", "data", "crawl"]
ONE_BY_ONE = ("run.workers=1", "store.tokenizer=characters")
NO_RULES = [
    f"{name}.enabled=false"
    for name in ("language", "gopher_repetition", "gopher_quality", "c4", "fineweb")
]


def arguments(web: Path, out: Path, *settings: str) -> list[str]:
    given = [part for setting in (*ONE_BY_ONE, *settings) for part in ("--set", setting)]
    return [*COMMAND, str(web), "--out", str(out), *given]


def written(out: Path) -> list[str]:
    return [gzip.open(file, "rt").read() for file in sorted((out / "documents").iterdir())]


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    folder.mkdir()
    texts = articles(tmp_path, 12)
    for number in range(3):
        pages = [(f"http://{number}.example/{n}", texts[4 * number + n]) for n in range(4)]
        pages.append((f"http://{number}.example/again", edited(texts[0], 80)))
        write_pages(folder / f"{number}.warc.gz", pages)
    return folder


@pytest.mark.slow
def test_a_killed_crawl_is_continued_task_by_task(web: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    running = subprocess.Popen(arguments(web, out), start_new_session=True)
    done = out / "logs" / "rules" / "completions"
    while not (done / "00000").exists():
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (done / "00002").exists()
    assert not (out / "report.json").exists()
    before = (done / "00000").stat().st_mtime_ns
    again = subprocess.run(arguments(web, out), capture_output=True, text=True)
    assert again.returncode == 2
    assert "continue it with --resume" in again.stderr
    subprocess.run([*arguments(web, out), "--resume"], check=True)
    assert (done / "00000").stat().st_mtime_ns == before
    subprocess.run(arguments(web, whole, "run.workers=2"), check=True)  # and two at once
    assert written(out) == written(whole)
    first, second = (json.loads((folder / "report.json").read_text()) for folder in (out, whole))
    for name in ("files", "pages", "steps", "personal_data", "documents", "characters"):
        assert first[name] == second[name]


def started(web: Path, out: Path) -> Callable[..., CrawlConfig]:
    """A crawl that has begun, as its record says; and its settings, to be changed."""

    def config(*settings: str) -> CrawlConfig:
        return CrawlConfig.parse(override({"inputs": [str(web)]}, settings))

    from foundling.data.crawl import record

    record.begin(out, config(), record.facts(config()), resume=False, overwrite=False)
    return config


def test_a_resumed_crawl_refuses_other_settings_and_other_files(web: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = started(web, out)
    with pytest.raises(ConfigError, match="min_doc_words = 20: the crawl was started with 50"):
        crawl(config("gopher_quality.min_doc_words=20"), out, resume=True)
    with pytest.raises(ConfigError, match="tasks = 2: the crawl was started with 0"):
        crawl(config("run.tasks=2"), out, resume=True)
    write_pages(web / "3.warc.gz", [("http://3.example", "One more.")])
    with pytest.raises(ConfigError, match=r"3\.warc\.gz: is new since the crawl was started"):
        crawl(config(), out, resume=True)
    (web / "3.warc.gz").unlink()
    write_pages(web / "0.warc.gz", [("http://0.example", "Another one.")])
    with pytest.raises(ConfigError, match=r"0\.warc\.gz: has changed since"):
        crawl(config(), out, resume=True)


def test_only_a_folder_of_a_crawl_is_overwritten(web: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear to me")
    config = CrawlConfig.parse({"inputs": [str(web)]})
    with pytest.raises(ConfigError, match="holds no crawl"):
        crawl(config, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.slow
def test_a_crawl_that_leaves_nothing_fails_and_says_why(web: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        arguments(web, tmp_path / "out", "gopher_quality.min_doc_words=99999"),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "no document is left of 15 pages in 3 files" in run.stderr
    assert "Gopher: quality removed 15" in run.stderr
    assert not (tmp_path / "out" / "report.json").exists()


def test_without_its_packages_the_verb_names_the_extra(
    web: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("foundling.data.crawl.crawl.NEEDED", ("datatrove", "no_such_package"))
    command = ["data", "crawl", str(web), "--out", str(tmp_path / "out")]
    assert cli.exit_code(lambda: cli.app(command)) == 2
    said = capsys.readouterr().err
    assert 'data crawl needs no_such_package: pip install "foundling[web]"' in said


@pytest.mark.slow
def test_near_duplicates_are_found_and_others_are_not(tmp_path: Path) -> None:
    """Of a hundred texts, each twice with 2% of the words changed, 95 pairs are found."""
    texts = articles(tmp_path, 100)
    rows = [(f"{n}", text) for n, text in enumerate(texts)]
    rows += [(f"{n} edited", edited(text, 50)) for n, text in enumerate(texts)]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"id": name, "text": text}) for name, text in rows))
    subprocess.run(arguments(file, tmp_path / "out", *NO_RULES), check=True)
    names = [
        json.loads(line)["id"] for part in written(tmp_path / "out") for line in part.splitlines()
    ]
    left = [sum(name.split()[0] == str(n) for name in names) for n in range(100)]
    assert left.count(1) >= 95
    assert left.count(0) <= 1


SBATCH = """#!/bin/bash
# Runs the tasks of an array at once, one after another, where Slurm would queue them.
file="${@: -1}"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$file")
for task in $(seq 0 "$last"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here RUN_OFFSET=0 bash "$file" >> "$LOG" 2>&1 || exit 1
done
echo "$*" >> "$LOG.submitted"
echo "Submitted batch job $(wc -l < "$LOG.submitted")"
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done
exec "$@"
"""


@pytest.mark.slow
def test_slurm_runs_the_same_stages(web: Path, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {
        "sbatch": SBATCH,
        "srun": SRUN,
        "scontrol": "#!/bin/bash\necho here\n",
    }.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = ("near_duplicates.buckets=2", "near_duplicates.hashes_per_bucket=4")
    out, here = tmp_path / "out", tmp_path / "here"
    submitted = subprocess.run(
        arguments(web, out, *settings, "run.executor=slurm", "run.slurm.partition=cpu"),
        env={**os.environ, "PATH": path, "LOG": str(tmp_path / "log")},
        capture_output=True,
        text=True,
    )
    assert submitted.returncode == 0, submitted.stderr + (tmp_path / "log").read_text()
    assert "when all jobs have ended" in submitted.stderr
    assert "--dependency=afterok:" in (tmp_path / "log.submitted").read_text()
    assert len(json.loads((out / "jobs.json").read_text())) == 6  # five stages and the store
    subprocess.run(arguments(web, here, *settings), check=True)
    assert written(out) == written(here)
    assert (out / "report.html").is_file()
