"""Preference tuning as a stage: its start, reference, resume, adapters, alarms, faults."""

import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Fault, FaultPlan
from safetensors.torch import save_file
from saved import weights_of

from foundling import cli, hamlet
from foundling.base.config import ConfigError, dump_toml, load_toml, override
from foundling.data.reading import read_conversations
from foundling.models import build, interchange
from foundling.preferences.records import Answer, Pair
from foundling.preferences.store import PreferenceStore
from foundling.runs import checkpoint
from foundling.runs.run import Run, load_model
from foundling.stages.adapter_folders import export_adapter
from foundling.stages.dpo import DpoConfig, dpo
from foundling.stages.observers import describe
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.stages.sft import SftConfig, sft
from foundling.stages.written import silence
from foundling.text.chat import Message
from foundling.training.interrupt import Interrupted

CLOCKS = {"seconds", "tokens_per_second", "matrix_rate_fraction"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Instructions, and preferences for their answers over rude ones."""
    folder = tmp_path_factory.mktemp("data")
    hamlet.write_instructions(folder / "train.jsonl", 120, seed=1)
    found, _ = read_conversations([folder / "train.jsonl"])
    single = [c.messages for c in found if [m.role for m in c.messages] == ["user", "assistant"]]
    rude = ("Ask someone else!", "Go away, fool.", "What a silly question.")
    rows = [
        {"prompt": prompt.content, "chosen": answer.content, "rejected": rude[number % 3]}
        for number, (prompt, answer) in enumerate(single)
    ]
    path = folder / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "train.jsonl", path


@pytest.fixture(scope="module")
def parent(
    tiny: Callable[..., PretrainConfig],
    files: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A pretrained model that was tuned on answers."""
    folder = tmp_path_factory.mktemp("parents")
    config = tiny("context=64", "training.steps=12", "validation.every=12")
    base = pretrain(config, folder / "base").folder
    values: dict[str, Any] = {
        "parent": str(base),
        "data": {"files": [str(files[0])], "on_long": "drop", "validation_fraction": 0.2},
        "training": {"steps": 6, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "optimizer": {"learning_rate": 1e-2},
        "anchor": {"strength": 0.0},
        "validation": {"every": 6},
        "followers": {"report": False},
    }
    return sft(SftConfig.parse(values), folder / "sft").folder


@pytest.fixture
def settings(parent: Path, files: tuple[Path, Path]) -> Callable[..., DpoConfig]:
    base: dict[str, Any] = {
        "seed": 5,
        "parent": str(parent),
        "data": {"files": [str(files[1])], "on_long": "drop", "validation_fraction": 0.2},
        "training": {
            "steps": 4,
            "batch_size": 4,
            "micro_batch_size": 3,
            "precision": "fp32",
            "device": "cpu",
        },
        "optimizer": {"learning_rate": 3e-3},
        "schedule": {"warmup_steps": 1},
        "forgetting": {"max_tokens": 400},
        "validation": {"every": 4, "kl_prompts": 2, "kl_tokens": 4},
        "checkpoint": {"every": 2, "keep_last": 9},
        "followers": {"report": False},
    }
    return lambda *assignments: DpoConfig.parse(override(base, assignments))


def metrics(run: Run | Path) -> list[dict[str, Any]]:
    folder = run if isinstance(run, Path) else run.folder
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k not in CLOCKS} for x in lines]


def weights(run: Run | Path) -> dict[str, torch.Tensor]:
    folder = run if isinstance(run, Path) else run.folder
    newest = checkpoint.committed(folder / "checkpoints")[-1]
    return weights_of(newest.model)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def interrupts(site: str, step: int, samples: Any, value: Any) -> Any:
    """A seam through which SIGINT comes in the middle."""
    if site == "batch" and step == 2:
        signal.raise_signal(signal.SIGINT)
    return value


def test_it_begins_at_ln_2_and_learns_what_is_preferred(
    settings: Callable[..., DpoConfig], parent: Path, tmp_path: Path
) -> None:
    reported = ('validation.prompts=["Who is the baker?"]', "followers.report=true")
    run = dpo(settings(*reported), tmp_path / "run")
    first, *_, last = run.records()["validation"]
    assert first["step"] == 0
    assert first["loss_nats"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["margin"] == pytest.approx(0, abs=1e-4)
    assert first["chosen_change"] == pytest.approx(0, abs=1e-3)
    assert abs(first["kl_nats"]) < 1e-6
    train = run.records()["train"]
    assert train[0]["loss_nats"] == pytest.approx(math.log(2), abs=1e-4)
    assert train[0]["margin"] == pytest.approx(0, abs=1e-4)
    assert last["loss_nats"] < first["loss_nats"]
    assert last["margin"] > 0
    assert last["kl_nats"] > 1e-6
    low, high = last["accuracy_interval"]
    assert low < last["accuracy"] <= high
    assert last["pretraining_loss_nats"] > 0
    assert 0 <= last["longer_accuracy"] <= 1
    assert run.records()["samples"][-1]["samples"][0]["prompt"] == "Who is the baker?"
    assert run.manifest["parent"]["source"] == str(parent)
    assert run.summary()["stage"] == "dpo"
    page = (run.folder / "report.html").read_text()
    assert "nats per pair" in page
    assert "Preferred rightly" in page
    load_model(run.folder)


def test_the_guard_heals_this_stage_too(settings: Callable[..., DpoConfig], tmp_path: Path) -> None:
    fault = Fault("loss", "nan", samples=range(9, 10), sticky=True)
    healed = dpo(settings(), tmp_path / "healed", seam=FaultPlan([fault]))
    amendments = healed.manifest["amendments"]
    assert amendments["skipped"]
    told = settings("guard.enabled=false").values() | {"amendments": amendments}
    clean = dpo(DpoConfig.parse(told), tmp_path / "clean")
    assert same(weights(healed), weights(clean))


@pytest.mark.parametrize("changes", [(), ("adapter.rank=2",), ("reference.kind=live",)])
def test_interrupted_equals_uninterrupted(
    settings: Callable[..., DpoConfig], tmp_path: Path, changes: tuple[str, ...]
) -> None:
    whole = dpo(settings(*changes), tmp_path / "whole")
    with pytest.raises(Interrupted):
        dpo(settings(*changes), tmp_path / "parts", seam=interrupts)
    parts = dpo(settings(*changes), tmp_path / "parts", resume=True)
    assert same(weights(parts), weights(whole))
    assert metrics(parts) == metrics(whole)


def test_votes_are_read_from_their_database_and_kept_with_the_run(
    settings: Callable[..., DpoConfig], files: tuple[Path, Path], tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in files[1].read_text().splitlines()]
    place = tmp_path / "votes.db"
    with PreferenceStore.open(place) as store:
        store.add_annotator("ann")
        ids = store.add_pairs(
            Pair(
                (Message("user", r["prompt"]),),
                Answer(r["rejected"], "x"),
                Answer(r["chosen"], "y"),
            )
            for r in rows
        )
        store.judge_pairs("ann", {ids[0]: "tie", **dict.fromkeys(ids[1:-9], "B")})
    with pytest.raises(Interrupted):
        dpo(settings(f"data.files={json.dumps([str(place)])}"), tmp_path / "run", seam=interrupts)
    with PreferenceStore.open(place) as store:
        store.judge_pairs("ann", dict.fromkeys(ids[-9:], "A"))
    saved = DpoConfig.parse(load_toml(tmp_path / "run" / "config.toml"))
    run = dpo(saved, tmp_path / "run", resume=True)
    file = tmp_path / "run" / "votes-1.jsonl"
    assert saved.data.files == (str(file),)
    assert len(file.read_text().splitlines()) == len(ids) - 10
    assert run.manifest["votes"] == [str(place)]
    alone = dpo(settings(f"data.files={json.dumps([str(file)])}"), tmp_path / "alone")
    assert same(weights(run), weights(alone))


@pytest.mark.slow
def test_votes_beside_rows_whose_columns_are_named_resume_the_same(
    settings: Callable[..., DpoConfig], files: tuple[Path, Path], tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in files[1].read_text().splitlines()]
    named = tmp_path / "named.jsonl"
    named.write_text(
        "".join(
            json.dumps({"q": r["prompt"], "good": r["chosen"], "bad": r["rejected"]}) + "\n"
            for r in rows[:-9]
        )
    )
    place = tmp_path / "votes.db"
    with PreferenceStore.open(place) as store:
        store.add_annotator("ann")
        store.add_annotator("bob")
        ids = store.add_pairs(
            Pair((Message("user", r["prompt"]),), Answer(r["chosen"], "x"), Answer("No.", "y"))
            for r in rows[-9:]
        )
        store.judge_pairs("ann", dict.fromkeys(ids, "A"))
        store.judge_pairs("bob", dict.fromkeys(ids, "B"))
    changes = (
        f"data.files={json.dumps([str(place), str(named)])}",
        "data.columns=prompt=q,chosen=good,rejected=bad",
        'data.without=["bob"]',
    )
    whole = dpo(settings(*changes), tmp_path / "whole")
    assert whole.manifest["pairs"] < len(rows)
    with pytest.raises(Interrupted):
        dpo(settings(*changes), tmp_path / "parts", seam=interrupts)
    saved = DpoConfig.parse(load_toml(tmp_path / "parts" / "config.toml"))
    parts = dpo(saved, tmp_path / "parts", resume=True)
    assert same(weights(parts), weights(whole))


def test_files_have_no_annotators(settings: Callable[..., DpoConfig], tmp_path: Path) -> None:
    for change in ('data.without=["bob"]', "data.who=people"):
        with pytest.raises(ConfigError, match="only votes in a database have annotators"):
            dpo(settings(change), tmp_path / "run")


def test_a_place_without_votes_is_one_clear_error(
    settings: Callable[..., DpoConfig], tmp_path: Path
) -> None:
    place = tmp_path / "votes.db"
    with PreferenceStore.open(place):
        pass
    for given, said in ((place, "collect votes first"), (f"sqlite:///{tmp_path}/no.db", "no such")):
        with pytest.raises(ConfigError, match=said):
            dpo(settings(f"data.files={json.dumps([str(given)])}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "no.db").exists()


def test_the_reference_is_the_copy_that_the_run_began_with(
    settings: Callable[..., DpoConfig], parent: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "parent"
    shutil.copytree(parent, moved)
    run = dpo(settings(f"parent={moved}"), tmp_path / "run")
    shutil.rmtree(moved)
    shutil.rmtree(run.folder / "reference")  # computed anew, from the copy
    again = dpo(settings(f"parent={moved}", "training.steps=8"), tmp_path / "run", resume=True)
    assert again.records()["train"][-1]["step"] == 8
    victim = run.folder / "parent" / "config.json"
    victim.write_text(victim.read_text() + " ")
    with pytest.raises(ConfigError, match="not the model that this run started from"):
        dpo(settings(f"parent={moved}", "training.steps=9"), tmp_path / "run", resume=True)


def test_live_and_stored_references_are_the_same_and_so_are_shared_and_plain_prompts(
    settings: Callable[..., DpoConfig], tmp_path: Path
) -> None:
    # A step is a whole epoch: in whatever order, it has the same pairs.
    whole = ("data.packing=false", "training.batch_size=83", "training.micro_batch_size=32")
    whole = (*whole, "training.steps=2", "validation.kl_prompts=0")
    stored = dpo(settings(*whole), tmp_path / "stored")
    assert stored.manifest["pairs"] == 83
    live = dpo(settings(*whole, "reference.kind=live"), tmp_path / "live")
    plain = dpo(settings(*whole, "data.shared_prompts=false"), tmp_path / "plain")
    for other in (live, plain):
        pairs = zip(stored.records()["train"], other.records()["train"], strict=True)
        for ours, theirs in pairs:
            for name in ("loss_nats", "margin", "accuracy", "nll", "gradient_norm"):
                # The first accuracy is that of the rounding of nothing.
                if (name, ours["step"]) != ("accuracy", 1):
                    assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5)


def test_the_verb_takes_parent_and_data_and_reports(
    settings: Callable[..., DpoConfig],
    parent: Path,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*arguments: object) -> int:
        return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))

    (tmp_path / "dpo.toml").write_text(dump_toml(settings("parent=x", "data.files=[]").values()))
    run = tmp_path / "run"
    command = ("dpo", tmp_path / "dpo.toml", "--data", files[1], "--out", run, "--json")
    assert call(*command, "--from", parent, "--set=training.steps=1") == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (told["stage"], told["step"]) == ("dpo", 1)
    assert call("dpo", "--resume", "--out", run, "--set=training.steps=2", "--json") == 0
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["step"] == 2
    assert call("dpo", "--resume", "--out", run, "--from", parent) == 2
    assert "give no --from" in capsys.readouterr().err
    assert call("sft", "--resume", "--out", run) == 2
    shipped = load_toml(Path(__file__).parents[2] / "configs" / "dpo.toml")
    assert DpoConfig.parse(shipped).dpo.loss == "sigmoid"


def test_a_store_that_is_not_the_parents_is_refused(
    settings: Callable[..., DpoConfig], tmp_path: Path
) -> None:
    shared = f"reference.store={tmp_path / 'store'}"
    dpo(settings(shared, "training.steps=1"), tmp_path / "first")
    before = sorted((tmp_path / "store").iterdir())
    assert len(before) == 2  # training and validation
    dpo(settings(shared, "training.steps=1", "optimizer.learning_rate=1e-4"), tmp_path / "second")
    assert sorted((tmp_path / "store").iterdir()) == before
    for file in before:
        with_key = load_with_metadata(file)
        save_file({"log_probs": with_key[0] + 0.5}, file, with_key[1])
    with pytest.raises(ConfigError, match="stored log-probabilities of pair"):
        dpo(settings(shared, "training.steps=1"), tmp_path / "third")


def load_with_metadata(file: Path) -> tuple[torch.Tensor, dict[str, str]]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor("log_probs"), opened.metadata()


def test_adapters_learn_while_the_rest_stays(
    settings: Callable[..., DpoConfig], parent: Path, tmp_path: Path
) -> None:
    live = dpo(settings("adapter.rank=2", "reference.kind=live"), tmp_path / "live")
    before, after = weights(parent), weights(live)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".self_attn." in name or ".mlp." in name for name in changed)
    first, *_, last = live.records()["validation"]
    assert first["loss_nats"] == pytest.approx(math.log(2), abs=1e-4)
    assert last["loss_nats"] < first["loss_nats"]
    export_adapter(live, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()


def test_what_is_frozen_does_not_move(
    settings: Callable[..., DpoConfig], parent: Path, tmp_path: Path
) -> None:
    run = dpo(settings('freeze=["embed.*"]', "training.steps=2"), tmp_path / "run")
    name = "model.embed_tokens.weight"
    assert torch.equal(weights(parent)[name], weights(run)[name])


@pytest.mark.parametrize("loss", ["ipo", "hinge", "robust", "normalised", "simpo"])
def test_every_loss_trains(settings: Callable[..., DpoConfig], tmp_path: Path, loss: str) -> None:
    run = dpo(settings(f"dpo.loss={loss}", "dpo.nll=0.1", "training.steps=3"), tmp_path / "run")
    first, *_, last = run.records()["validation"]
    assert last["loss_nats"] < first["loss_nats"]
    assert (last["chosen_change"] is None) == (loss == "simpo")


def test_a_fall_of_the_chosen_answers_is_an_alarm(
    settings: Callable[..., DpoConfig], tmp_path: Path
) -> None:
    wild = ("optimizer.learning_rate=0.3", "guard.enabled=false", "training.steps=3")
    run = dpo(settings(*wild), tmp_path / "run")
    first, *_, last = run.records()["validation"]
    assert first["alarm"] is None
    assert last["chosen_change_per_token"] < -0.1
    assert last["alarm"].startswith("displacement: the chosen answers have become less likely")
    assert any("displacement" in line for line in describe(last))


def test_rungs_without_branches_get_the_plain_way(
    tiny: Callable[..., PretrainConfig],
    settings: Callable[..., DpoConfig],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "foundling")
    model = 'model={"rung"="bag_of_words","dim"=16}'
    config = tiny("context=64", "training.steps=2", "validation.every=2", model)
    base = pretrain(config, tmp_path / "base").folder
    start = (f"parent={base}", "context=64", "training.steps=2")
    run = dpo(settings(*start), tmp_path / "run")
    assert "bag_of_words cannot share a prompt" in caplog.text
    assert run.records()["validation"][0]["loss_nats"] == pytest.approx(math.log(2), abs=1e-4)
    with pytest.raises(ConfigError, match="cannot keep two answers to one prompt apart"):
        dpo(settings(*start, "data.shared_prompts=true"), tmp_path / "forced")


def test_it_ends_early_when_validation_no_longer_improves(
    settings: Callable[..., DpoConfig], tmp_path: Path
) -> None:
    # Where labels are thought to be wrong, large margins cost more and more.
    wild = ("optimizer.learning_rate=1", "dpo.label_smoothing=0.4", "guard.enabled=false")
    early = ("training.steps=60", "validation.every=2", "validation.patience=1")
    run = dpo(settings(*wild, *early), tmp_path / "run")
    validations = run.records()["validation"]
    best = min(validations, key=lambda record: record["loss_nats"])
    assert validations[-1]["step"] == best["step"] + 2 < 60


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("parent=",), "nowhere|neither a run"),
        (("context=999",), "reads at most 64"),
        (("data.files=[]",), "data.files"),
        (("data.format=nonsense",), "nonsense"),
        (("data.row_length=9",), "row_length = 9"),
        (("training.epochs=2",), "steps or epochs"),
        (("dpo.loss=dpoo",), "dpo.loss"),
        (("dpo.gamma=1",), 'loss = "sigmoid" does not use gamma'),
        (("dpo.loss=simpo", "reference.kind=live"), "does not use reference"),
        (("reference.kind=live", "reference.store=x"), "does not use store"),
        (("forgetting.data=/nowhere",), "/nowhere"),
    ],
)
def test_faults_of_the_user_are_told_before_anything_is_written(
    settings: Callable[..., DpoConfig], tmp_path: Path, assignments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dpo(settings(*assignments), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_validation_tells_of_answers_that_shrink_to_nothing(
    settings: Callable[..., DpoConfig], tmp_path: Path
) -> None:
    # The loss falls as it should, and the model hardly speaks any more.
    pairs = [
        {"prompt": f"Who is number {n}?", "chosen": "I", "rejected": f"The baker of house {n}."}
        for n in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    brief = (
        "dpo.nll=2",
        "training.steps=40",
        "validation.every=40",
        "optimizer.learning_rate=0.02",
    )
    run = dpo(settings(f'data.files=["{tmp_path / "pairs.jsonl"}"]', *brief), tmp_path / "run")
    first, *_, last = run.records()["validation"]
    assert last["loss_nats"] < first["loss_nats"]
    assert last["answer_tokens"] < first["answer_tokens"]
    assert any(f"answers of {last['answer_tokens']:.0f} tokens" in line for line in describe(last))


def test_a_parent_that_answers_nothing_raises_the_alarm(
    settings: Callable[..., DpoConfig], parent: Path, tmp_path: Path
) -> None:
    tokenizer = load_model(parent)[1]
    values = {"dim": 16, "num_layers": 1, "num_heads": 2, "norm": "layernorm", "tied": False}
    mute = build(values, vocab_size=tokenizer.vocab_size, context=64)
    weights = mute.state_dict()
    for name in ("context.norm.weight", "context.norm.bias", "unembed.weight"):
        weights[name].zero_()
    weights["context.norm.bias"][0] = 1  # of every last vector
    weights["unembed.weight"][tokenizer.special("<|end_of_turn|>"), 0] = 50
    interchange.save(mute, tmp_path / "mute", tokenizer.mark_ids())
    tokenizer.save(tmp_path / "mute")
    run = dpo(settings(f"parent={tmp_path / 'mute'}", "training.steps=1"), tmp_path / "run")
    first, *_ = run.records()["validation"]
    assert first["empty_answers"] == 1
    assert first["answer_tokens"] == 1
    assert first["alarm"].startswith("silence: 100% of the sampled answers are empty")


def test_silence_is_an_alarm() -> None:
    assert silence({"empty_answers": None}) is None
    assert silence({"empty_answers": 0.25}) is None
    assert str(silence({"empty_answers": 0.875})).startswith("silence: 88% of the sampled answers")
