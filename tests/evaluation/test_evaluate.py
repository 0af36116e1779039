"""The verb evaluate: models side by side, nothing asked twice, probes of one's own, faults."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend

from foundling import hamlet, models
from foundling.base.config import ConfigError, Section
from foundling.cli import app, exit_code
from foundling.data.prepare import prepare
from foundling.evaluation.evaluate import CACHE, ITEMS, EvaluateConfig, evaluate, parse_evaluation
from foundling.evaluation.findings import Findings, Metric
from foundling.evaluation.model_scorer import load_scorer
from foundling.evaluation.probes import PROBES, Probe, Setting
from foundling.evaluation.probes import find as finding
from foundling.evaluation.probes.find import find_probes
from foundling.evaluation.probes.language_modelling import LanguageModelling
from foundling.evaluation.probes.toxicity.classifier import load_classifier
from foundling.evaluation.scorer import Scorer
from foundling.evaluation.village import has_read_village
from foundling.models import interchange
from foundling.runs.run import find_model
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of two models with random weights, as they are exported."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = Tokenizer.train_bytes([hamlet.text(40_000, 1)], 500)
    for name in ("first", "second"):
        torch.manual_seed(len(name))
        model = models.build(
            {"rung": "transformer", "dim": 16, "num_layers": 1, "num_heads": 2},
            vocab_size=tokenizer.vocab_size, context=256,
        )  # fmt: skip
        (folder / name).mkdir()
        interchange.save(model, folder / name)
        tokenizer.save(folder / name)
    return [str(folder / "first"), str(folder / "second")]


def verb(*arguments: object) -> int:
    words = ["evaluate", *map(str, arguments), "--device", "cpu"]
    return exit_code(lambda: app(words))


def last_line(text: str) -> Any:
    return json.loads(text.strip().splitlines()[-1])


class Asking:
    """Two questions; each answer is an outcome."""

    name, title, about = "asking", "Asking", "How likely two words are."
    words = (" mill", " pond")

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        found = scorer.score([("The", word) for word in self.words])
        outcomes = {word: one.log_prob for word, one in zip(self.words, found, strict=True) if one}
        return Findings([Metric(f"{self.name}.nats", "Nats", outcomes, unit="number")])


class Interrupting(Asking):
    """Somebody ends it while it runs."""

    name, title = "interrupting", "Interrupting"
    words = (" mill", " duck")

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        super().run(scorer, setting)
        raise KeyboardInterrupt


class Watching:
    """How many requests each model and probe had."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def __call__(self, what: str, asked: int, answered: int) -> None:
        self.asked[what] = self.asked.get(what, 0) + asked


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


# ------------------------------------------------------------------ probes of one's own

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


# ------------------------------------------------------------------ faults


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


# ------------------------------------------------------------------ the classifier


def labelled(path: Path) -> Path:
    words = (("lovely", 0), ("gentle", 0), ("vile", 1), ("rotten", 1))
    rows = [f"what a {w} visit number {n},{label}\n" for n in range(12) for w, label in words]
    path.write_text("text,label\n" + "".join(rows))
    return path


@pytest.mark.slow
def test_a_classifier_is_trained_and_taken(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "classifier"
    command = [
        "classifier",
        "train",
        labelled(tmp_path / "labelled.csv"),
        "--out",
        folder,
        "--json",
    ]
    assert exit_code(lambda: app([str(word) for word in command])) == 0
    captured = capsys.readouterr()
    errors: Mapping[str, Any] = last_line(captured.out)
    assert errors["trained_on"]["num_texts"] == 48
    assert f"--classifier {folder}" in captured.err
    assert load_classifier(folder).errors == errors
    out = tmp_path / "out"
    prompts = tmp_path / "own.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Say {n}"}) + "\n" for n in range(3)))
    command = [made[0], "--probes", "toxicity", "--limit", 2, "--num-samples", 1,
               "--prompts", prompts, "--classifier", folder, "--out", out, "--json"]  # fmt: skip
    assert verb(*command) == 0
    found = last_line(capsys.readouterr().out)
    assert found["setting"]["toxicity.classifier"] == str(folder)
    assert json.loads((out / "results.json").read_text()) == found
    assert any(".classifier." in metric["key"] for metric in found["probes"][0]["metrics"])


def test_a_folder_without_a_classifier_is_a_fault(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [made[0], "--probes", "toxicity", "--classifier", tmp_path, "--out", tmp_path / "out"]
    assert verb(*command, "--limit", 2) == 2
    assert "`foundling classifier train` wrote" in capsys.readouterr().err
