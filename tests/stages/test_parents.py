"""Models of others as parents: new tokens are learned, and what they came with goes along."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling.base.config import override
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


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_adapters_learn_to_end_a_turn_with_a_new_token(
    by_heart: Callable[..., Run], base: Path, tmp_path: Path, tied: bool
) -> None:
    parent = base
    if not tied:
        from foundling.models import interchange, rebuild

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
