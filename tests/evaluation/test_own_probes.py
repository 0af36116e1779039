"""Probes of one's own: in a file, with settings, of a package."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from evaluating import last_line, verb

from foundling.base.config import ConfigError
from foundling.evaluation.probes import PROBES, Probe
from foundling.evaluation.probes import find as finding
from foundling.evaluation.probes.find import find_probes

OWN = """
from foundling.evaluation.findings import Findings, Metric
from foundling.evaluation.probes import Probe, Setting
from foundling.evaluation.scorer import Scorer


class Mine:
    name, title, about = "mine", "My probe", "Whether a pond is likelier than a mill."

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        mill, pond = scorer.score([("The", " mill"), ("The", " pond")])
        metric = Metric("mine.pond", "Pond", {"a": float(pond.log_prob > mill.log_prob)})
        return Findings([metric])
"""


def own(folder: Path, text: str = OWN) -> Path:
    (folder / "mine.py").write_text(text)
    return folder / "mine.py"


def test_a_probe_in_a_file(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe, out = own(tmp_path), tmp_path / "out"
    assert verb(*made, "--probes", f"{probe}, bias", "--limit", 4, "--out", out, "--json") == 0
    found = last_line(capsys.readouterr().out)
    assert [probe["name"] for probe in found["probes"]] == ["mine", "bias"]
    (metric,) = found["probes"][0]["metrics"]
    assert {one["value"] for one in metric["values"].values()} <= {0.0, 1.0}
    assert "My probe" in (out / "report.html").read_text()


WITH_SETTINGS = """
from pathlib import Path
from typing import ClassVar

from foundling.base.config import Section
from foundling.evaluation.findings import Findings, Metric


class Mine(Section):
    name: ClassVar = "mine"
    title: ClassVar = "My probe"
    about: ClassVar = "How likely a word is."
    word: str = " mill"
    notes: tuple[Path, ...] = ()

    def run(self, scorer, setting):
        (found,) = scorer.score([("The", self.word)])
        return Findings([Metric("mine.nats", self.word, {"a": found.log_prob}, unit="number")])
"""


def test_a_probe_brings_its_settings_which_files_and_flags_set(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe, out = own(tmp_path, WITH_SETTINGS), tmp_path / "out"
    (tmp_path / "a.txt").write_text("A hen.")
    settings = tmp_path / "evaluation.toml"
    settings.write_text(
        f'limit = 5\nseed = 7\nprobes = ["{probe}"]\n[mine]\nword = " pond"\n'
        f'notes = ["{tmp_path / "a.txt"}"]\n[toxicity]\nnum_samples = 3\n'
    )
    command = [made[0], "--config", settings, "--out", out, "--limit", 4, "--json"]
    assert verb(*command, "--set", "seed=8") == 0
    captured = capsys.readouterr()
    found = last_line(captured.out)
    setting = found["setting"]
    assert found["probes"][0]["metrics"][0]["title"] == " pond"
    assert {key: setting[key] for key in ("limit", "seed", "mine.word", "probes", "device")} == {
        "limit": 4, "seed": 8, "mine.word": " pond", "probes": ["mine"], "device": "cpu"
    }  # fmt: skip
    assert list(setting["files"]) == [str(tmp_path / "a.txt")]
    assert verb(*command, "--set", "mine.wrod=x") == 2
    assert 'mine.wrod: no such setting (notes, word). Did you mean "word"?' in (
        capsys.readouterr().err
    )
    assert verb(*command, "--set", f"mine.notes=['{tmp_path / 'nowhere'}']") == 2
    assert "nowhere: no such file" in capsys.readouterr().err


def test_settings_of_a_probe_that_is_not_chosen_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "foundling")
    (probe,) = find_probes(["bias"], {"toxicity": {"num_samples": 3}})
    assert probe.name == "bias"
    assert "[toxicity]: not read, for it is not among the probes." in caplog.text
    with pytest.raises(ConfigError, match=r"toxicity\.num_samples = 0"):
        find_probes(["bias"], {"toxicity": {"num_samples": 0}})
    assert [probe.name for probe in find_probes(["bias"], {"lm_eval": {"tasks": ["x"]}})] == [
        "bias",
        "lm_eval",
    ]
    with pytest.raises(ConfigError, match="shots is the number of examples of tasks"):
        find_probes(["bias"], {"lm_eval": {"shots": 1}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"mine\.py: 0 probes; expected one class with name, title, about and run"),
        ("from foundling.evaluation.probes.bias import Bias", "0 probes; expected one class"),
        (OWN + "\n\nclass Other(Mine):\n    name = 'other'\n", "2 probes; expected one class"),
        (OWN.replace('"My probe"', '"My probe').replace("title,", ""), "cannot be run: Syntax"),
        ("1 / 0", r"mine\.py: cannot be run: ZeroDivisionError: division by zero"),
        ("import nowhere_at_all", "cannot be run: ModuleNotFoundError"),
        (OWN.replace("def run", "def walk"), "0 probes; expected one class"),
        (OWN + "\n    def __init__(self, x): ...\n", r"mine\.py: cannot be created: TypeError"),
        (OWN.replace('"mine", "My', '"bias", "My'), r'two probes named "bias"'),
    ],
)
def test_a_broken_probe_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_probes(["bias", str(own(tmp_path, text))])


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Lets a package bring an entry point."""

    def bring(name: str, value: str) -> None:
        points = EntryPoints([EntryPoint(name, value, finding.GROUP)])

        def entry_points(**wanted: str) -> EntryPoints:
            return points.select(**wanted)

        monkeypatch.setattr(finding, "entry_points", entry_points)

    return bring


def test_a_probe_that_a_package_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: Callable[[str, str], None]
) -> None:
    (tmp_path / "brought_probe.py").write_text(OWN + "\n\nMADE = Mine()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for value in ("brought_probe:Mine", "brought_probe:MADE"):
        brought("mine", value)
        assert [probe.name for probe in find_probes()] == [*(p.name for p in PROBES), "mine"]
        (probe,) = find_probes(["mine"])
        assert isinstance(probe, Probe)
    brought("bias", "foundling.evaluation.probes.bias:Bias")
    with pytest.raises(ConfigError, match=r'probe "bias" exists already; rename it'):
        find_probes()
    brought("mine", "brought_probe:OWN_NAME".replace("OWN_NAME", "Findings"))
    with pytest.raises(ConfigError, match="not a probe: it must have name"):
        find_probes()
    brought("mine", "brought_probe:GONE")
    with pytest.raises(ConfigError, match=r"brought_probe:GONE: cannot be loaded: AttributeError"):
        find_probes()


def test_probes_in_the_order_given() -> None:
    assert [probe.name for probe in find_probes()] == [probe.name for probe in PROBES]
    names = ["truthfulness", "bias"]
    assert [probe.name for probe in find_probes(names)] == names
    with pytest.raises(ConfigError, match='two probes named "bias"'):
        find_probes(["bias", "bias"])
