"""Instruction tuning as a stage: anchor, reference, forgetting, resume, adapters, early end."""

import json
import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Fault, FaultPlan
from saved import weights_of

from foundling import hamlet, models
from foundling.base.config import ConfigError, load_toml, override
from foundling.models import interchange
from foundling.runs import checkpoint
from foundling.runs.model_folder import open_model
from foundling.runs.run import Run, load_model
from foundling.stages.adapter_folders import export_adapter, merge_adapter
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.stages.sft import SftConfig, sft
from foundling.text.own_templates import ROLE_TOKENS
from foundling.training.interrupt import Interrupted

CLOCKS = {"seconds", "tokens_per_second", "matrix_rate_fraction"}


@pytest.fixture(scope="module")
def parent(tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny("context=64", "training.steps=20", "validation.every=20")
    return pretrain(config, tmp_path_factory.mktemp("parent") / "run").folder


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("instructions") / "train.jsonl"
    hamlet.write_instructions(path, 120, seed=1)
    return path


@pytest.fixture
def settings(parent: Path, conversations: Path) -> Callable[..., SftConfig]:
    base: dict[str, Any] = {
        "seed": 5,
        "parent": str(parent),
        "data": {"files": [str(conversations)], "on_long": "drop", "validation_fraction": 0.2},
        "training": {"steps": 6, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "optimizer": {"learning_rate": 1e-2},
        "schedule": {"warmup_steps": 1},
        "forgetting": {"max_tokens": 500},
        "validation": {"every": 3},
        "checkpoint": {"every": 2, "keep_last": 9},
        "followers": {"report": False},
    }
    return lambda *assignments: SftConfig.parse(override(base, assignments))


def metrics(run: Run | Path) -> list[dict[str, Any]]:
    folder = run if isinstance(run, Path) else run.folder
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k not in CLOCKS} for x in lines]


def weights(run: Run | Path) -> dict[str, torch.Tensor]:
    folder = run if isinstance(run, Path) else run.folder
    return weights_of(checkpoint.committed(folder / "checkpoints")[-1].model)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_it_begins_at_the_parent_and_says_what_is_forgotten(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    run = sft(settings("followers.report=true"), tmp_path / "run")
    first, *_, last = run.records()["validation"]
    assert first["step"] == 0
    assert abs(first["kl_nats"]) < 1e-6
    of_parent = Run.open(parent).records()["validation"][-1]
    assert first["pretraining_bits_per_byte"] == pytest.approx(of_parent["bits_per_byte"], rel=0.1)
    assert last["loss_nats"] < first["loss_nats"]
    assert last["kl_nats"] > 0.01
    train = run.records()["train"]
    for record in train:
        anchored = record["cross_entropy"] + 0.1 * record["kl"]
        assert record["loss_nats"] == pytest.approx(anchored, rel=1e-5)
        assert record["entropy"] > 0
    assert abs(train[0]["kl"]) < 1e-6
    manifest = run.manifest
    assert manifest["parent"]["source"] == str(parent)
    assert (run.folder / "report.html").stat().st_size > 0
    assert run.summary()["stage"] == "sft"


def test_a_strong_anchor_holds_the_model_nearer(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    drift = []
    for strength in (0, 10):
        run = sft(settings(f"anchor.strength={strength}"), tmp_path / str(strength))
        drift.append(run.records()["validation"][-1]["kl_nats"])
    assert drift[1] < 0.5 * drift[0]


def test_no_anchor_is_plain_tuning_and_needs_no_reference(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    run = sft(settings("anchor.strength=0"), tmp_path / "run")
    train = run.records()["train"]
    assert all("kl" not in record for record in train)
    assert all(record["loss_nats"] == record["cross_entropy"] for record in train)


@pytest.mark.parametrize("adapter", [(), ("adapter.rank=2", "adapter.dropout=0.1")])
@pytest.mark.parametrize("step", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_interrupted_equals_uninterrupted(
    settings: Callable[..., SftConfig], tmp_path: Path, step: int, adapter: tuple[str, ...]
) -> None:
    whole = sft(settings(*adapter), tmp_path / "whole")

    def interrupt(site: str, at: int, samples: Any, value: Any) -> Any:
        if site == "loss" and at == step:
            signal.raise_signal(signal.SIGINT)
        return value

    with pytest.raises(Interrupted):
        sft(settings(*adapter), tmp_path / "cut", seam=interrupt)
    cut = sft(settings(*adapter), tmp_path / "cut", resume=True)
    assert metrics(cut) == metrics(whole)
    assert same(weights(cut), weights(whole))


def test_the_reference_is_the_copy_that_the_run_began_with(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "parent"
    shutil.copytree(parent, moved)
    whole = sft(settings(f"parent={moved}"), tmp_path / "whole")
    shutil.rmtree(moved)
    again = sft(settings(f"parent={moved}", "training.steps=8"), tmp_path / "whole", resume=True)
    assert again.records()["train"][-1]["step"] == 8
    victim = whole.folder / "parent" / "config.json"
    victim.write_text(victim.read_text() + " ")
    with pytest.raises(ConfigError, match="not the model that this run started from"):
        sft(settings(f"parent={moved}", "training.steps=9"), tmp_path / "whole", resume=True)


def test_stored_states_of_the_reference_do_as_well_as_the_reference(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    live = sft(settings(), tmp_path / "live")
    stored = sft(settings("anchor.reference=stored"), tmp_path / "stored")
    for ours, theirs in zip(stored.records()["train"], live.records()["train"], strict=True):
        assert ours["kl"] == pytest.approx(theirs["kl"], abs=1e-5)
        assert ours["loss_nats"] == pytest.approx(theirs["loss_nats"], rel=1e-4)


def test_adapters_learn_while_the_rest_stays(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    run = sft(settings("adapter.rank=2"), tmp_path / "run")
    before, after = weights(parent), weights(run)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    embed = "model.embed_tokens.weight"
    assert all(".self_attn." in name or ".mlp." in name for name in changed - {embed})
    # The tokens of turns, which no pretraining text has, learn too; no other token's row does.
    rows = (before[embed] != after[embed]).any(dim=1).nonzero().flatten().tolist()
    tokenizer = load_model(run.folder)[1]
    assert [tokenizer.name_of(row) for row in rows] == [*ROLE_TOKENS]
    assert run.manifest["learned_tokens"] == rows
    first, *_, last = run.records()["validation"]
    assert abs(first["kl_nats"]) < 1e-6
    assert last["loss_nats"] < first["loss_nats"]


def test_what_is_frozen_does_not_move(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    run = sft(settings('freeze=["embed.*", "context.blocks.0.*"]'), tmp_path / "run")
    before, after = weights(parent), weights(run)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("layers.0." in name or "embed" in name for name in moved)
    with pytest.raises(ConfigError, match="nothing"):
        sft(settings('freeze=["nothing"]'), tmp_path / "other")


def test_it_ends_early_when_validation_no_longer_improves(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    # A learning rate of next to nothing: what is best is decided by the first few validations.
    wild = ("optimizer.learning_rate=3", "optimizer.clip=0", "guard.enabled=false")
    early = ("training.steps=60", "validation.every=2", "validation.patience=2")
    run = sft(settings(*wild, *early), tmp_path / "run")
    validations = run.records()["validation"]
    best = min(validations, key=lambda record: record["loss_nats"])
    assert validations[-1]["step"] == best["step"] + 4 < 60
    kept = checkpoint.best_whole(run.checkpoints)
    assert kept is not None
    assert kept.step == best["step"]
    again = sft(settings(*wild, *early), tmp_path / "run", resume=True)
    assert again.records()["validation"] == validations


def test_the_tuned_model_knows_how_to_chat(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    run = sft(settings('validation.prompts=["Who is the baker?"]'), tmp_path / "run")
    assert run.records()["samples"][-1]["samples"][0]["prompt"] == "Who is the baker?"
    newest = checkpoint.committed(run.checkpoints)[-1]
    template = json.loads((newest.model / "tokenizer_config.json").read_text())["chat_template"]
    assert "<|assistant|>" in template
    load_model(run.folder)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("parent=",), "nowhere|neither a run"),
        (("context=999",), "reads at most 64"),
        (("data.row_length=5",), "row_length = 5; give a longer data.row_length"),
        (("data.files=[]",), "data.files"),
        (("training.epochs=2",), "steps or epochs"),
        (("anchor.store=x",), "does not use store"),
        (("dropout=1.5",), "dropout"),
        (("data.format=nonsense",), "nonsense"),
        (("forgetting.data=/nowhere",), "/nowhere"),
    ],
)
def test_faults_of_the_user_are_told_before_anything_is_written(
    settings: Callable[..., SftConfig], tmp_path: Path, assignments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sft(settings(*assignments), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_parent_without_roles_gets_them(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint.committed(parent / "checkpoints")[-1].model, folder)
    file = folder / "tokenizer.json"
    text = file.read_text()
    for name in ("user", "assistant", "system", "end_of_turn"):
        text = text.replace(f"<|{name}|>", f"<|{name}_of_old|>")
    file.write_text(text)
    run = sft(settings(f"parent={folder}", "forgetting.max_tokens=400"), tmp_path / "run")
    model, tokenizer = load_model(run.folder)
    assert tokenizer.knows_roles
    assert tokenizer.vocab_size == model.vocab_size == 404
    assert abs(run.records()["validation"][0]["kl_nats"]) < 1e-6
    old = weights(parent)["model.embed_tokens.weight"]
    new = models.widened(load_model(parent)[0], 404)
    assert torch.equal(new.embed.weight[:400], old)
    torch.testing.assert_close(new.embed.weight[402], old.mean(0), rtol=0, atol=0.5 * old.std())
    assert new.embed.weight[400:].unique(dim=0).shape == (4, old.shape[1])


def test_a_checkpoint_of_adapters_holds_these_alone(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    run = sft(settings("adapter.rank=2", "checkpoint.keep_last=1"), tmp_path / "run")
    found = checkpoint.best_whole(run.checkpoints)
    assert found is not None
    held = {path.name for path in found.model.iterdir() if path.suffix == ".safetensors"}
    assert held == {"adapter.safetensors"}
    facts = json.loads((found.model / "adapter.json").read_text())
    assert facts["base_fingerprint"] == run.manifest["parent"]["fingerprint"]

    model, tokenizer = load_model(run.folder)
    interchange.save(model, tmp_path / "plain", tokenizer.mark_ids())
    tokenizer.save(tmp_path / "plain")
    ids = torch.arange(9)[None]
    expected = model.eval().hidden(ids)
    # The next run keeps adapter and base, and begins at the same model.
    second = sft(settings(f"parent={run.folder}", "adapter.rank=3"), tmp_path / "second")
    shutil.rmtree(run.folder)
    more = (f"parent={run.folder}", "adapter.rank=3", "training.steps=7")
    again = sft(settings(*more), second.folder, resume=True)
    assert again.records()["train"][-1]["step"] == 7
    assert torch.equal(open_model(second.folder / "parent").eval().hidden(ids), expected)
    plain = sft(settings(f"parent={tmp_path / 'plain'}", "adapter.rank=3"), tmp_path / "third")
    validations = [some.records()["validation"][0]["loss_nats"] for some in (second, plain)]
    assert validations[0] == pytest.approx(validations[1], rel=1e-6)

    (plain.folder / "parent" / "config.json").unlink()
    with pytest.raises(ConfigError, match="not the model that it stands on"):
        load_model(plain.folder)


def test_the_weights_of_a_parent_in_a_run_are_not_copied(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    run = sft(settings("training.steps=1"), tmp_path / "run")
    best = checkpoint.best_whole(parent / "checkpoints")
    assert best is not None
    kept = run.folder / "parent" / "model.safetensors"
    assert kept.samefile(best.model / "model.safetensors")
    assert not (run.folder / "parent" / "config.json").samefile(best.model / "config.json")
    outside = shutil.copytree(best.model, tmp_path / "outside")
    other = sft(settings("training.steps=1", f"parent={outside}"), tmp_path / "other")
    copy = other.folder / "parent" / "model.safetensors"
    assert not copy.samefile(outside / "model.safetensors")


def test_an_adapter_goes_out_to_peft_and_back_into_a_plain_model(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path
) -> None:
    run = sft(settings("adapter.rank=2"), tmp_path / "run")
    export_adapter(run, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    merge_adapter(str(parent), tmp_path / "adapter", tmp_path / "merged")
    with pytest.raises(ConfigError, match="stands on other weights"):
        merge_adapter(str(run.folder), tmp_path / "adapter", tmp_path / "twice")
    tokens = torch.arange(9)[None]
    ours, merged = (load_model(path)[0].eval() for path in (run.folder, tmp_path / "merged"))
    torch.testing.assert_close(merged.hidden(tokens), ours.hidden(tokens))
    plain = sft(settings("training.steps=1"), tmp_path / "plain")
    with pytest.raises(ConfigError, match="trained no adapter"):
        export_adapter(plain, tmp_path / "none")
    with pytest.raises(ConfigError, match="not empty"):
        export_adapter(run, tmp_path / "adapter")


def test_a_step_is_never_more_than_an_epoch(
    settings: Callable[..., SftConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "foundling")
    rows = [{"prompt": f"Say {n}.", "completion": f"{n}!"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = f'data.files=["{tmp_path / "rows.jsonl"}"]'
    short = sft(settings(data, "training.batch_size=20", "training.steps=2"), tmp_path / "short")
    saved = load_toml(short.folder / "config.toml")
    assert saved["training"]["batch_size"] == 20
    assert saved["data"]["row_length"] < 64
    assert "with longer ones a step would be more than one epoch" in caplog.text
    assert "batch_size" not in caplog.text
    resumed = SftConfig.parse(override(saved, ["training.steps=3"]))
    assert sft(resumed, short.folder, resume=True).records()["train"][-1]["step"] == 3

    few = sft(settings(data, "training.batch_size=4000", "training.steps=1"), tmp_path / "few")
    assert load_toml(few.folder / "config.toml")["training"]["batch_size"] == 32
    assert "training.batch_size = 4000: an epoch has only 32 rows" in caplog.text


def test_rows_of_text_hold_it_nearer_to_what_it_knew(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    alone = sft(settings("anchor.strength=1"), tmp_path / "alone")
    beside = ("anchor.strength=1", "anchor.text_rows=8")
    held = sft(settings(*beside), tmp_path / "held")
    drift = [
        abs(
            run.records()["validation"][-1]["pretraining_loss_nats"]
            - run.records()["validation"][0]["pretraining_loss_nats"]
        )
        for run in (alone, held)
    ]
    assert drift[1] < drift[0]
    assert held.records()["train"][-1]["text_kl"] > 0
    with pytest.raises(ConfigError, match=r"data\.packing"):
        sft(settings(*beside, "data.packing=false"), tmp_path / "unpacked")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("parameter", "nan", step=5),
        Fault("loss", "nan", samples=range(17, 18), sticky=True),
    ],
    ids=["a weight once", "a sample every time"],
)
def test_the_guard_heals_this_stage_too(
    settings: Callable[..., SftConfig], tmp_path: Path, fault: Fault
) -> None:
    for_long = ("training.steps=8", "anchor.text_rows=2")
    healed = sft(settings(*for_long), tmp_path / "healed", seam=FaultPlan([fault]))
    assert healed.events()
    amendments = healed.manifest["amendments"]
    assert bool(amendments["skipped"]) == fault.sticky
    told = settings(*for_long, "guard.enabled=false").values() | {"amendments": amendments}
    clean = sft(SftConfig.parse(told), tmp_path / "clean")
    assert same(weights(healed), weights(clean))


def test_columns_and_repairs_are_named_in_one_text(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    data = settings("data.repair=trim, merge", "data.columns=prompt=q,completion=reply").data
    assert data.repair == ("merge", "trim")
    assert data.columns == {"prompt": "q", "completion": "reply"}
    assert settings('data.repair=["trim"]').data.repair == ("trim",)
    with pytest.raises(ConfigError, match=r'repair = "merg": no such repair .* Did you mean "merg'):
        settings("data.repair=merg")
    rows = [[("user", str(n)), ("user", "Hello?"), ("assistant", "Yes.")] for n in range(12)]
    file = tmp_path / "twice.jsonl"
    file.write_text(
        "".join(
            json.dumps({"messages": [{"role": r, "content": c} for r, c in row]}) + "\n"
            for row in rows
        )
    )
    files = f"data.files={json.dumps([str(file)])}"
    with pytest.raises(ConfigError, match=r"twice\.jsonl:1: .* data\.repair"):
        sft(settings(files), tmp_path / "run")
    run = sft(settings(files, "data.repair=merge", "training.steps=1"), tmp_path / "run")
    assert load_toml(run.folder / "config.toml")["data"]["repair"] == ["merge"]
