"""Models of others as parents: new tokens are learned, and what they came with goes along."""

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling.base.config import ConfigError, load_toml, override
from foundling.models import interchange, rebuild, widened
from foundling.runs import checkpoint
from foundling.runs.run import Run, load_model
from foundling.stages.adapter_folders import export_adapter, merge_adapter
from foundling.stages.parent import Parent
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.stages.sft import SftConfig, sft
from foundling.text.chat import Message, render_batch

ROWS = [("What is the sea?", "Water."), ("Who bakes?", "The baker."), ("And then?", "Bread.")]


@pytest.fixture(scope="module")
def base(tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained model folder whose tokenizer has no tokens of turns."""
    place = tmp_path_factory.mktemp("base")
    config = tiny("context=64", "model.dim=32", "training.steps=40", "validation.every=40")
    run = pretrain(config, place / "run")
    shutil.copytree(checkpoint.committed(run.checkpoints)[-1].model, place / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = place / "model" / name
        text = file.read_text()
        for token in ("user", "assistant", "system", "end_of_turn"):
            text = text.replace(f"<|{token}|>", f"<|{token}_of_old|>")
        file.write_text(text)
    settings = json.loads((place / "model" / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (place / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    (place / "model" / "chat_template.jinja").unlink(missing_ok=True)
    return place / "model"


@pytest.fixture
def by_heart(base: Path, tmp_path: Path) -> Callable[..., Run]:
    """Learns the rows by heart."""
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in ROWS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "parent": str(base),
        "data": {
            "files": [str(tmp_path / "rows.jsonl")],
            "validation": [str(tmp_path / "rows.jsonl")],
        },
        "training": {"steps": 80, "batch_size": 1, "precision": "fp32", "device": "cpu"},
        "optimizer": {"learning_rate": 2e-2},
        "anchor": {"strength": 0},
        "validation": {"every": 80},
        "checkpoint": {"every": 80},
        "followers": {"report": False},
        "guard": {"enabled": False},
    }

    def run(name: str, *assignments: str) -> Run:
        return sft(SftConfig.parse(override(settings, assignments)), tmp_path / name)

    return run


def end_probabilities(folder: Path) -> list[float]:
    """Of the end of a turn behind each answer."""
    model, tokenizer = load_model(folder)
    turns = [(Message("user", prompt), Message("assistant", text)) for prompt, text in ROWS]
    found = []
    for (rendered,) in render_batch(turns, tokenizer):
        last = max(at for at, learned in enumerate(rendered.learned) if learned)
        with torch.no_grad():
            hidden = model.eval().hidden(torch.tensor([rendered.tokens[:last]]))
            chances = model.logits(hidden[0, -1]).softmax(-1)
        assert rendered.tokens[last] in tokenizer.stop_ids
        found.append(chances[rendered.tokens[last]].item())
    return found


TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<|over|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


@pytest.fixture
def chatty(base: Path, tmp_path: Path) -> Path:
    """A model of others that speaks a template of its own, with padded rows and two end ids."""
    folder, size = with_tokens(base, tmp_path / "chatty", ("<|turn|>", "<|over|>"), rows=13)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    ends = {"eos_token_id": [1, size + 1], "temperature": 0.5, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    return folder


def with_tokens(base: Path, folder: Path, names: Sequence[str], rows: int) -> tuple[Path, int]:
    """A copy whose vocabulary has these tokens, and with the padding so many rows; the first id."""
    shutil.copytree(base, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    size = max(tokenizer["model"]["vocab"].values()) + 1
    size = max(size, 1 + max(token["id"] for token in tokenizer["added_tokens"]))
    like = tokenizer["added_tokens"][0]
    tokenizer["added_tokens"] += [
        {**like, "content": name, "id": size + number} for number, name in enumerate(names)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = widened(interchange.load(base), size + rows)
    interchange.save(model, folder, {"eos_token_id": [1]})
    return folder, size


def check_with_transformers(folder: Path, chatty: Path) -> None:
    """The parent's files are as they were, and `transformers` answers and stops."""
    import transformers

    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / name).read_bytes() == (chatty / name).read_bytes()
    before, after = (json.loads((x / "config.json").read_text()) for x in (chatty, folder))
    for key in ("vocab_size", "tie_word_embeddings", "eos_token_id"):
        assert before[key] == after[key]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        for prompt, answer in ROWS:
            tokens = tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
            written = model.generate(**tokens, do_sample=False, max_new_tokens=30)
            text = tokenizer.decode(written[0, tokens["input_ids"].shape[1] :])
            assert text == f"{answer}<|over|>"


def test_transformers_continues_a_tuned_model_with_its_own_template(
    by_heart: Callable[..., Run], chatty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    longer = ("training.steps=160", "validation.every=160", "checkpoint.every=160")
    run = by_heart("run", f"parent={chatty}", *longer, "optimizer.learning_rate=1e-2")
    check_with_transformers(checkpoint.committed(run.checkpoints)[-1].model, chatty)

    few = ("training.steps=4", "validation.every=4", "optimizer.learning_rate=1e-3")
    adapted = by_heart("adapted", f"parent={run.folder}", *few, "adapter.rank=4")
    assert adapted.manifest["learned_tokens"] == []
    export_adapter(adapted, tmp_path / "adapter")
    merge_adapter(str(run.folder), tmp_path / "adapter", tmp_path / "merged")
    check_with_transformers(tmp_path / "merged", chatty)


def test_rows_of_a_parent_of_long_context_follow_the_data(
    by_heart: Callable[..., Run], base: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(base, tmp_path / "long")
    model = interchange.load(base)
    longer = rebuild({**model.spec, "context": 4096})
    longer.load_state_dict(model.state_dict())
    interchange.save(longer, folder)
    rows = [{"prompt": f"Say {n} " + "and " * 20, "completion": f"{n}!"} for n in range(120)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    many = (f'data.files=["{tmp_path / "many.jsonl"}"]', "training.steps=1")
    run = by_heart("run", f"parent={folder}", *many, "training.batch_size=4")
    saved = load_toml(run.folder / "config.toml")
    assert saved["context"] == 4096
    assert saved["data"]["row_length"] < 300
    assert run.manifest["packing_efficiency"] > 0.7


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_adapters_learn_to_end_a_turn_with_a_new_token(
    by_heart: Callable[..., Run], base: Path, tmp_path: Path, tied: bool
) -> None:
    parent = base
    if not tied:
        model = interchange.load(base)
        untied = rebuild({**model.spec, "tied": False})
        untied.load_state_dict(model.state_dict())
        parent = shutil.copytree(base, tmp_path / "untied")
        interchange.save(untied, parent)
    run = by_heart("run", f"parent={parent}", "adapter.rank=8")
    assert min(end_probabilities(run.folder)) > 0.9
    export_adapter(run, tmp_path / "adapter")
    merge_adapter(str(parent), tmp_path / "adapter", tmp_path / "merged")
    assert end_probabilities(tmp_path / "merged") == pytest.approx(
        end_probabilities(run.folder), rel=1e-4
    )


def test_adapters_learn_the_tokens_of_a_template_new_to_a_parent_that_has_them(
    by_heart: Callable[..., Run], base: Path, tmp_path: Path
) -> None:
    names = ("<|im_start|>", "<|im_end|>")
    parent, size = with_tokens(base, tmp_path / "parent", names, rows=4)
    run = by_heart("run", f"parent={parent}", "adapter.rank=8", "data.template=chatml")
    assert run.manifest["learned_tokens"] == [size, size + 1]
    assert min(end_probabilities(run.folder)) > 0.5


def test_adapters_leave_the_tokens_alone_that_a_parent_speaks_with(
    by_heart: Callable[..., Run], base: Path, tmp_path: Path
) -> None:
    names = ("<|system|>", "<|user|>", "<|assistant|>", "<|end_of_turn|>")
    parent, _ = with_tokens(base, tmp_path / "parent", names, rows=4)
    (parent / "chat_template.jinja").write_text(
        "{% for message in messages %}<|{{ message['role'] }}|>\n"
        "{{ message['content'] }}<|end_of_turn|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    few = ("training.steps=2", "validation.every=2", "checkpoint.every=2")
    run = by_heart("run", f"parent={parent}", *few, "adapter.rank=2")
    assert run.manifest["learned_tokens"] == []


def test_adapters_learn_the_turns_of_a_parent_that_was_tuned_on_plain_text(
    by_heart: Callable[..., Run], tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    own = pretrain(tiny("context=64", "training.steps=2", "validation.every=2"), tmp_path / "own")
    few = ("training.steps=2", "validation.every=2", "checkpoint.every=2")
    plain = by_heart("plain", f"parent={own.folder}", *few, "data.style=plain")
    run = by_heart("run", f"parent={plain.folder}", *few, "adapter.rank=2")
    assert run.manifest["learned_tokens"] == load_model(run.folder)[1].template_ids
    again = by_heart("again", f"parent={run.folder}", *few, "adapter.rank=2")
    assert again.manifest["learned_tokens"] == []


def test_what_is_left_of_the_parents_own_answers_is_measured(
    by_heart: Callable[..., Run], tmp_path: Path
) -> None:
    names = ("wood", "iron", "salt", "flour")
    prompts = [{"prompt": f"What of {name}?", "completion": "unread"} for name in names]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in prompts))
    old = (f'forgetting.prompts=["{file}"]', "forgetting.num_prompts=3", "training.steps=6")
    every = ("validation.every=3", "checkpoint.every=3")
    run = by_heart("run", *old, *every)
    kept = json.loads((run.folder / "parent_answers.json").read_text())["answers"]
    assert len(kept) == 3
    first, *_, last = run.records()["validation"]
    assert first["parent_answers_kl_nats"] == pytest.approx(0, abs=1e-6)
    assert last["parent_answers_loss_nats"] > first["parent_answers_loss_nats"]
    assert last["parent_answers_kl_nats"] > 0.01

    # Greedy answers: at every place of one, the parent's likeliest token.
    model = Parent.kept_by(run).load(load_model(run.folder)[1])
    for answer in kept:
        tokens, given = answer["tokens"], answer["given"]
        with torch.no_grad():
            hidden = model.eval().hidden(torch.tensor([tokens[:-1]]))
            likeliest = model.logits(hidden)[0, given - 1 :].argmax(-1).tolist()
        assert tokens[given:] == likeliest


def test_the_parent_answers_plain_prompts_where_plain_text_is_learned(
    by_heart: Callable[..., Run], tmp_path: Path
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": "What of salt?", "completion": "unread"}) + "\n")
    plain = ('data.style="plain"', f'forgetting.prompts=["{file}"]', "forgetting.answer_tokens=3")
    few = ("training.steps=1", "validation.every=1", "checkpoint.every=1")
    run = by_heart("run", *plain, *few)
    (answer,) = json.loads((run.folder / "parent_answers.json").read_text())["answers"]
    tokenizer = load_model(run.folder)[1]
    asked = [*tokenizer.begin_ids, *tokenizer.encode("What of salt?")]
    assert answer["tokens"][: answer["given"]] == asked

    turns = [{"role": role, "content": "hm"} for role in ("system", "user", "assistant")]
    file.write_text(json.dumps({"messages": turns}) + "\n")
    with pytest.raises(ConfigError, match=r"forgetting\.prompts: .*:1: .*takes one prompt"):
        by_heart("refused", *plain, *few)
