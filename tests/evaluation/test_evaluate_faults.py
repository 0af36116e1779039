"""The verb evaluate where something is missing, broken or not finite."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from evaluating import Asking, Watching, verb

from foundling.base.config import ConfigError
from foundling.evaluation.evaluate import CACHE, EvaluateConfig, evaluate
from foundling.evaluation.probes import PROBES
from foundling.evaluation.probes.language_modelling import LanguageModelling
from foundling.models import interchange
from foundling.text.tokenizer import Tokenizer


@pytest.mark.parametrize("probe", [probe.name for probe in PROBES if probe.name != "bias"])
def test_logits_that_are_not_finite_are_one_error(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], probe: str
) -> None:
    model = interchange.load(Path(made[0]))
    with torch.no_grad():
        model.unembed.weight[3, 2] = float("nan")
    interchange.save(model, tmp_path / "broken")
    Tokenizer.load(made[0]).save(tmp_path / "broken")
    command = [tmp_path / "broken", "--probes", probe, "--limit", 2, "--village"]
    assert verb(*command, "--out", tmp_path / "out") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: the model's logits are not finite")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bench/piqa.jsonl", '{"goal": "x", "sol1": "a", "sol2": "b", "label": 2}'),
        ("risk/truthfulqa.csv", "Question\nWhy?"),
        ("risk/crows_pairs.csv", "sent_more\nx"),
        ("bench/negation.jsonl", '{"statement": "x"}'),
        ("wikitext2_raw_test.txt", " "),
    ],
)
def test_a_broken_file_is_said_before_anything_is_asked(
    made: list[str], tmp_path: Path, file: str, text: str
) -> None:
    path = tmp_path / "data" / file
    path.parent.mkdir(parents=True)
    path.write_text(text + "\n")
    setting, watch = EvaluateConfig(data_root=tmp_path / "data"), Watching()
    with pytest.raises(ConfigError, match=path.name):
        evaluate(made, [Asking(), *PROBES], setting, tmp_path / "out", watch=watch)
    assert watch.asked == {}


def test_what_is_missing_is_said_before_anything_is_asked(made: list[str], tmp_path: Path) -> None:
    watch = Watching()
    for sources, probes in (
        ([*made, "nowhere"], [Asking()]),
        (made, [Asking(), LanguageModelling(texts=(tmp_path / "nowhere",))]),
    ):
        with pytest.raises(ConfigError, match="nowhere: "):
            evaluate(sources, probes, EvaluateConfig(), tmp_path / "out", watch=watch)
    assert watch.asked == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN", "--probes", "bais"], '"bais": no such probe'),
        (["RUN", "--probes", "nowhere.py"], "nowhere.py: no such file of a probe."),
        (["RUN", "RUN", "--probes", "bias"], "given twice."),
        (["RUN", "--data-root", "nowhere"], 'data_root = "nowhere": no such folder.'),
        ([], "no run was given"),
        (["nowhere", "--probes", "bias"], "nowhere: neither a run, a checkpoint nor a model"),
        (["RUN", "--probes", "bias", "--shots", "0,x"], "--shots 0,x: expected whole numbers"),
        (["RUN", "--probes", "in_context", "--shots", "-1"], "in_context.shots.0 = -1: "),
        (["RUN", "--set", "toxicity.lexikon=x"], 'Did you mean "lexicon"?'),
        (["RUN", "--set", "toxcity.lexicon=x"], 'Did you mean "toxicity"?'),
        (["RUN", "--set", "limt=3"], "limt: no such setting"),
        (["RUN", "--set", "toxicity=3"], "toxicity"),
        (["RUN", "--set", "limt=3"], 'Did you mean "limit"?'),
        (["RUN", "--set", "in_context=3"], "in_context = 3: a probe; expected"),
        (["RUN", "--set", "probes=bias"], 'probes = "bias": expected a list, such as ["bias"].'),
        (["RUN", "--set", "probes=3"], "probes = 3: "),
        (["RUN", "--set", "bias.limit=3"], "bias: this probe has no settings."),
        (["RUN", "--config", "nowhere.toml"], "nowhere.toml: no such config file."),
        (["RUN", "--probes", "language_modelling", "--text", "nowhere.txt"], "nowhere.txt"),
        (["RUN", "--probes", "in_context", "--task", "nowhere"], "nowhere: no such file"),
        (["RUN", "--probes", "bias", "--precision", "fp7"], "fp7"),
    ],
)
def test_faults_of_the_input_are_one_line(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str], said: str,
) -> None:  # fmt: skip
    words = [made[0] if word == "RUN" else word for word in arguments]
    assert verb(*words, "--out", tmp_path / "out", "--limit", 2) == 2
    captured = capsys.readouterr()
    line = captured.err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert said in line
    assert captured.out == ""
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_folder_with_another_file_of_that_name_is_a_fault(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CACHE).write_text("notes " * 100)
    assert verb(made[0], "--out", tmp_path, "--probes", "bias") == 2
    assert "no cache of answers" in capsys.readouterr().err
