"""Models with their cards: published folders, Ollama, and the hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from foundling import cli
from foundling.base.config import ConfigError
from foundling.models import build, interchange
from foundling.models.gguf_files import GgufFile
from foundling.runs import hub, model_card
from foundling.runs.gguf import export_gguf, import_gguf
from foundling.runs.ollama import FORMATS, export_ollama, modelfile, template_of
from foundling.runs.published import export_folder
from foundling.runs.run import Run, load_model
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.text.tokenizer import Tokenizer

TEXTS = ["The quick brown fox jumps over the lazy dog."] * 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    tokenizer = Tokenizer.train_bytes(TEXTS, 290)
    sizes = {"dim": 32, "num_layers": 1, "num_heads": 2, "rung": "transformer"}
    model = build(sizes, vocab_size=tokenizer.vocab_size, context=64)
    interchange.save(model, tmp_path / "model", tokenizer.mark_ids())
    tokenizer.save(tmp_path / "model")
    return tmp_path / "model"


def tuned(parent: Path, out: Path) -> Run:
    """A run as `sft` begins it."""
    return Run.create(
        out,
        "[training]\nsteps = 3\n",
        {
            "stage": "sft",
            "seed": 1,
            "parent": {"source": str(parent), "fingerprint": "0123456789abcdef"},
            "data": ["/home/me/questions.jsonl"],
            "data_fingerprint": "fedcba9876543210",
            "num_parameters": 1234,
            "model": {"context": 64},
        },
    )


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


# ---------------------------------------------------------------------- cards


def test_a_card_says_what_the_run_knows(
    tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    config = tiny()
    run = pretrain(config, tmp_path / "run")
    export_folder(run.folder, tmp_path / "out", name="Village", licence="mit")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.tags == ["foundling", "pretrain"]
    best = min(one["loss_nats"] for one in run.records()["validation"])
    assert f"| validation loss (nats a token) | {best:.4f} |" in card.text
    assert f"It learned from {Path(config.data).name}" in card.text
    assert str(tmp_path) not in card.content  # no path of this machine
    model, _ = load_model(tmp_path / "out")
    assert f"{model.num_parameters():,} parameters" in card.text


def test_a_licence_is_never_invented(folder: Path, tmp_path: Path) -> None:
    export_folder(folder, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license is None
    assert "licence is not known" in card.text


def test_a_licence_that_the_hub_does_not_list_has_a_name(folder: Path, tmp_path: Path) -> None:
    export_folder(folder, tmp_path / "out", licence="acme-2")
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.license, data["license_name"]) == ("other", "acme-2")
    assert model_card.terms_of(tmp_path / "out") == {"license": "other", "license_name": "acme-2"}


def test_a_folder_keeps_its_card_and_gives_its_licence_on(folder: Path, tmp_path: Path) -> None:
    card = "---\nlicense: apache-2.0\nlanguage: en\n---\n\n# Mine\n"
    (folder / "README.md").write_text(card)
    export_folder(folder, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == card
    assert call("export", folder, "--type", "f16", "--out", tmp_path / "m.gguf") == 0
    assert GgufFile(tmp_path / "m.gguf").fields["general.license"] == "apache-2.0"
    assert call("import", tmp_path / "m.gguf", "--out", tmp_path / "back") == 0
    assert ModelCard.load(tmp_path / "back" / "README.md").data.license == "apache-2.0"


def test_a_tuned_model_has_the_licence_of_its_parent(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    run = tuned(folder, tmp_path / "run")
    assert model_card.known_terms("", run.folder, tmp_path) == {"license": "mit"}
    facts, data = model_card.describe(run.folder)
    assert "Its parent is model (`0123456789ab`)." in facts
    assert "It learned from questions.jsonl (`fedcba987654`)." in facts
    assert "base_model" not in data
    run.amend({"parent": {"source": "hub:acme/base@main", "fingerprint": "0123456789abcdef"}})
    assert model_card.describe(run.folder)[1]["base_model"] == "acme/base"
    assert model_card.known_terms("", run.folder, tmp_path) == {}


def test_the_terms_of_a_parent_are_kept_as_they_are(folder: Path, tmp_path: Path) -> None:
    terms = {
        "license": "other",
        "license_name": "acme-community",
        "license_link": "https://acme.example/licence",
    }
    ModelCard("---\n" + "".join(f"{k}: {v}\n" for k, v in terms.items()) + "---\n").save(
        folder / "README.md"
    )
    export_gguf(folder, tmp_path / "m.gguf", "f16")
    fields = GgufFile(tmp_path / "m.gguf").fields
    assert fields["general.license.link"] == "https://acme.example/licence"
    import_gguf(tmp_path / "m.gguf", tmp_path / "back")
    assert model_card.terms_of(tmp_path / "back") == terms
    assert model_card.terms("bigcode-openrail-m") == {"license": "bigcode-openrail-m"}


def test_a_card_has_the_figures_of_its_own_step(folder: Path, tmp_path: Path) -> None:
    """Neither those of the best step for another, nor those of a run for its parent's copy."""
    run = tuned(folder, tmp_path / "run")
    records = ((1, 3.0), (2, 1.0))
    run.metrics.write_text(
        "".join(
            f'{{"split": "validation", "step": {step}, "loss_nats": {loss}}}\n'
            for step, loss in records
        )
    )
    steps = [run.checkpoints / f"step-{step:08d}" for step in (1, 2, 3)]
    for source, said in ((steps[0], "3.0000"), (steps[0] / "model", "3.0000"), (steps[1], "1.0000"),
                         (run.folder, "1.0000")):  # fmt: skip
        facts, _ = model_card.describe(source)
        assert f"| validation loss (nats a token) | {said} |" in facts
    facts, _ = model_card.describe(steps[2])
    assert "stage `sft`" in facts
    assert "Figures" not in facts
    for source in (run.folder / "parent", run.folder / "base", tmp_path / "run2"):
        assert model_card.describe(source) == ("", {"tags": ["foundling"]})


@pytest.mark.filterwarnings("ignore")
def test_transformers_opens_a_published_folder(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export_folder(folder, tmp_path / "out")
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ours, tokenizer = load_model(folder)
    tokens = torch.tensor([tokenizer.encode("The lazy fox")])
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(tokens)), peer(tokens).logits)
    text = "The lazy fox"
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words.encode(text, add_special_tokens=False) == tokenizer.encode(text)


# ---------------------------------------------------------------------- Ollama


def test_ollama_gets_a_file_that_says_how_to_talk(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 6], "temperature": 0.7}')
    assert call("export", folder, "--format", "ollama", "--out", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Modelfile", "model.gguf"]
    assert (tmp_path / "out" / "Modelfile").read_text() == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end_of_turn|>{{ end }}'
        '<|assistant|>"""\n'
        'PARAMETER stop "<|end_of_text|>"\n'
        'PARAMETER stop "<|end_of_turn|>"\n'
        "PARAMETER num_ctx 64\n"
        "PARAMETER temperature 0.7\n"
    )


def test_a_system_message_of_the_template_goes_into_the_modelfile(
    folder: Path, tmp_path: Path
) -> None:
    """As SmolLM2's: ChatML that speaks for the system where nobody does."""
    source = (
        "{% if messages[0]['role'] != 'system' %}"
        "<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = Tokenizer.load(folder).with_template(source)
    assert template_of(tokenizer) == (FORMATS[0].go, "Be kind.")
    assert template_of(Tokenizer.load(folder).with_template("chatml")) == (FORMATS[0].go, "")


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (None, []),
        ('{"do_sample": false, "temperature": 0.7}', ["temperature 0"]),
        ('{"do_sample": true, "top_k": 64, "top_p": 0.95, "repetition_penalty": 1.05}',
         ["top_k 64", "top_p 0.95", "repeat_penalty 1.05"]),
        ('{"do_sample": true, "temperature": 0.6, "min_p": 0.1}', ["temperature 0.6", "min_p 0.1"]),
    ],
)  # fmt: skip
def test_ollama_samples_as_the_model_asks(
    folder: Path, given: str | None, lines: list[str]
) -> None:
    (folder / "generation_config.json").unlink(missing_ok=True)
    if given:
        (folder / "generation_config.json").write_text(given)
    wrote = modelfile(folder, 64).splitlines()
    assert wrote[wrote.index("PARAMETER num_ctx 64") + 1 :] == [f"PARAMETER {x}" for x in lines]


def test_a_system_message_that_no_modelfile_holds_is_refused(folder: Path, tmp_path: Path) -> None:
    source = (
        "{% if messages[0]['role'] != 'system' %}"
        '<|im_start|>system\nSay """x""".<|im_end|>\n{% endif %}'
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    Tokenizer.load(folder).with_template(source).save(folder)
    with pytest.raises(ConfigError, match="which a Modelfile cannot"):
        modelfile(folder, 64)


def test_the_formats_write_what_is_known_of_them() -> None:
    turns = [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")]
    chatml, llama, own, gemma = (one.written(turns) for one in FORMATS)
    assert chatml == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert llama.startswith("<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>")
    assert own == (
        "<|system|>S<|end_of_turn|><|user|>U<|end_of_turn|><|assistant|>A<|end_of_turn|>"
        "<|user|>V<|end_of_turn|><|assistant|>"
    )
    assert gemma == (
        "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
        "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n"
    )


# ---------------------------------------------------------------------- the hub


@pytest.fixture
def cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The hub's client answers from its cache, as it does without a network."""

    def put(repository: str, **files: str) -> str:
        from huggingface_hub import constants

        root = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("c0ffee")
        snapshot = root / "snapshots" / "c0ffee"
        snapshot.mkdir(parents=True)
        for path in folder.iterdir():
            (snapshot / path.name).symlink_to(path)
        for name, content in files.items():
            (snapshot / name.replace("__", ".")).write_text(content)
        return f"hub:{repository}"

    return put


def test_a_model_of_the_hub_becomes_a_folder(
    folder: Path, tmp_path: Path, cached: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    given = cached("acme/tiny", chat_template__jinja="{{ messages }}", README__md="# Tiny\n")
    hub.import_hub(given, tmp_path / "out")
    names = {path.name for path in folder.iterdir()} | {"chat_template.jinja", "README.md"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    load_model(tmp_path / "out")
    with pytest.raises(ConfigError, match="hub:acme/none: cannot be loaded from the hub"):
        hub.import_hub("hub:acme/none", tmp_path / "other")
    with pytest.raises(ConfigError, match="exists already"):
        hub.import_hub(given, tmp_path / "out")
    assert not list(tmp_path.glob(".*.partial"))


def test_of_the_hub_only_the_model_is_taken(
    folder: Path, tmp_path: Path, cached: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    others = {
        "pytorch_model__bin": "pickle",
        "modeling_x__py": "import os",
        "consolidated__safetensors": "weights again",
        "LICENSE": "terms",
    }
    given, names = cached("acme/tiny", **others), {path.name for path in folder.iterdir()}
    hub.import_hub(given, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"LICENSE"}
    export_folder(given, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == names | {
        "LICENSE",
        "README.md",
    }


def test_of_the_hub_the_files_of_the_index_are_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but what the index names: no second copy of the weights."""
    import huggingface_hub

    asked: list[str] = []
    shards = tmp_path / "shards"
    interchange.save(interchange.load(folder), shards, shard_bytes=4000)

    def answer(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return str(shards)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    hub.download("hub:acme/tiny")
    weights = [path.name for path in sorted(shards.glob("*.safetensors"))]
    assert len(weights) > 1
    wanted = [*weights, "adapter.safetensors"]
    assert sorted(name for name in asked if name.endswith(".safetensors")) == sorted(wanted)


def test_options_that_do_nothing_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for arguments, said in (
        (("export", folder, "--format", "zip", "--out", out), "--format zip: no such format"),
        (("export", folder, "--format", "hf", "--type", "f16", "--out", out), "--type: only GGUF"),
        (("import", "hub:a/b", "--weights", "bf16", "--out", out), "--weights: only what a GGUF"),
        (("import", tmp_path / "x.gguf", "--tokenizer", "t", "--out", out), "brings its own"),
        (("import", folder / "config.json", "--out", out), "give the --tokenizer"),
    ):
        assert call(*arguments) == 2
        assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_template_of_no_known_format_is_left_to_the_file(folder: Path, tmp_path: Path) -> None:
    source = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    tokenizer = Tokenizer.load(folder).with_template(source)
    assert template_of(tokenizer) is None
    tokenizer.save(folder)
    export_ollama(folder, tmp_path / "out", "f16")
    assert "TEMPLATE" not in (tmp_path / "out" / "Modelfile").read_text()
    fields = GgufFile(tmp_path / "out" / "model.gguf").fields
    assert fields["tokenizer.chat_template"] == source
