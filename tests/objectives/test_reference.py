"""The reference's vectors: frozen, by switching adapters off, and from the disk."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundling import models
from foundling.base.config import ConfigError
from foundling.base.precision import autocast
from foundling.models.adapters import AdapterSettings, add_adapters, disabled
from foundling.models.batch import IGNORE, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import Sft
from foundling.objectives.reference import (
    DisabledAdapter,
    FrozenModel,
    Reference,
    StoredHidden,
    store_hidden,
    verify,
)

VOCAB, TIME, DIM = 31, 8, 16
CPU = torch.device("cpu")
KEY = {"weights": "abc", "data": "def", "precision": "fp32", "torch": torch.__version__}


def build(seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    settings = {"dim": DIM, "num_layers": 2, "num_heads": 2, "dropout": 0.3}
    model = models.build(settings, vocab_size=VOCAB, context=TIME)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def batches() -> list[TokenBatch]:
    """Two batches of two rows; their targets are numbered in a shuffled order."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCAB, (4, TIME + 1), generator=generator)
    targets = tokens[:, 1:].clone()
    targets[:, :3] = targets[2, 3:5] = IGNORE
    due = targets != IGNORE
    ids = torch.full_like(targets, -1)
    ids[due] = torch.randperm(int(due.sum()), generator=generator)
    positions = torch.arange(TIME).expand(4, TIME)
    whole = TokenBatch(tokens[:, :-1], targets, positions, target_ids=ids)
    return [whole.rows(0, 2), whole.rows(2, 4)]


NUM_TARGETS = 18


def store(model: LanguageModel, folder: Path, precision: torch.dtype = torch.float32, **changes):
    arguments = {"batches": batches(), "num_targets": NUM_TARGETS, "key": KEY, **changes}
    return store_hidden(model, folder=folder, device=CPU, precision=precision, **arguments)


def expected(model: LanguageModel, batch: TokenBatch) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(batch.tokens, batch.view)[batch.targets != IGNORE]


def test_a_frozen_model_gives_the_due_vectors_in_their_order() -> None:
    model = build().train()
    reference = FrozenModel(model)
    batch = batches()[1]
    assert isinstance(reference, Reference)
    found = reference.hidden(batch)
    assert torch.equal(found, expected(build(), batch))
    assert not any(p.requires_grad for p in model.parameters())
    assert not reference.weight.requires_grad


def adapted(seed: int = 0) -> LanguageModel:
    model = build(seed)
    add_adapters(model, AdapterSettings(rank=2, dropout=0.5), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_b" in name:
                parameter.normal_()
    return model


def test_the_policy_without_its_adapters_is_the_reference() -> None:
    policy = adapted().train()
    policy.context.blocks[0].eval()
    modes = [module.training for module in policy.modules()]
    reference = DisabledAdapter(policy)
    batch = batches()[0]
    assert torch.equal(reference.hidden(batch), expected(build(), batch))
    assert [module.training for module in policy.modules()] == modes
    loss = Sft(0.5, reference)(policy.eval(), batch)
    assert loss.metrics["kl"] > 0.1
    loss.total.backward()
    trained = {name for name, p in policy.named_parameters() if p.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)


def test_the_mode_comes_back_after_an_error() -> None:
    policy = adapted().train()
    with pytest.raises(IndexError):
        DisabledAdapter(policy).hidden(
            TokenBatch(
                torch.full((1, 2), VOCAB), torch.zeros(1, 2).long(), torch.zeros(1, 2).long()
            )
        )
    assert all(module.training for module in policy.modules())
    with disabled(policy):
        off = expected(policy, batches()[0])
    assert not torch.equal(off, expected(policy, batches()[0]))


def test_a_policy_that_trains_more_than_adapters_is_no_reference() -> None:
    policy = adapted()
    policy.embed.weight.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"embed\.weight trains beside the adapters"):
        DisabledAdapter(policy)
    with pytest.raises(ConfigError, match="no adapters"):
        DisabledAdapter(build())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_stored_vectors_give_the_loss_of_the_live_reference(
    tmp_path: Path, precision: torch.dtype
) -> None:
    told: list[tuple[int, int]] = []
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    stored = store(build(7).train(), tmp_path, precision, progress=progress)
    assert told == [(10, NUM_TARGETS), (NUM_TARGETS, NUM_TARGETS)]
    assert stored.vectors.dtype == stored.weight.dtype == precision
    policy = build().eval()
    for batch in batches():
        found = []
        for reference in (FrozenModel(build(7)), StoredHidden.open(tmp_path, KEY)):
            with autocast(CPU, precision):
                loss = Sft(0.5, reference)(policy, batch)
            loss.total.backward()
            found.append([loss.total, loss.rows, loss.metrics["kl"], policy.embed.weight.grad])
            policy.zero_grad()
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_rows_are_found_by_number_in_any_order(tmp_path: Path) -> None:
    stored = store(build(), tmp_path)
    first, second = batches()
    mixed = TokenBatch(*(
        torch.cat((getattr(second, name)[1:], getattr(first, name)[:1]))
        for name in ("tokens", "targets", "positions")
    ), target_ids=torch.cat((second.target_ids[1:], first.target_ids[:1])))  # fmt: skip
    wanted = torch.cat((expected(build(), second)[3:], expected(build(), first)[:5]))
    torch.testing.assert_close(stored.hidden(mixed), wanted)


def test_computed_once(tmp_path: Path) -> None:
    store(build(), tmp_path)
    again = store(build(), tmp_path, batches=[])  # no batch is asked for
    assert len(again.vectors) == NUM_TARGETS
    reordered = dict(reversed(KEY.items()))
    assert StoredHidden.open(tmp_path, reordered).file == again.file
    other = store(build(7), tmp_path, key={**KEY, "weights": "xyz"})
    assert other.file != again.file
    assert not torch.equal(other.vectors, again.vectors)


def test_a_batch_without_numbers_is_refused(tmp_path: Path) -> None:
    stored, batch = store(build(), tmp_path), batches()[0]
    with pytest.raises(ValueError, match="has no target_ids"):
        stored.hidden(TokenBatch(batch.tokens, batch.targets, batch.positions))
    foreign = TokenBatch(
        batch.tokens, batch.targets, batch.positions, target_ids=batch.target_ids + 10
    )
    with pytest.raises(ValueError, match="holds those of 18 targets"):
        stored.hidden(foreign)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": batches()[:1]}, "8 of 18 targets are in no batch"),
        ({"num_targets": 17}, "target_ids up to 17 among 17"),
        ({"num_targets": 0}, "one at least"),
    ],
)
def test_targets_that_do_not_fit_are_refused_and_leave_nothing(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        store(build(), tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stored vectors"):
        StoredHidden.open(tmp_path, KEY)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def garble(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'{"__metadata__"', b'{"__metadata__', 1))


def rename_key(file: Path) -> None:
    tensors = load_file(file)
    save_file(tensors, file, {"key": json.dumps({**KEY, "weights": "another"})})


def reshape(file: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    narrower = tensors["hidden"][:, 1:].contiguous()
    save_file({**tensors, "hidden": narrower}, file, {"key": json.dumps(KEY)})


@pytest.mark.parametrize("damage", [cut, garble, rename_key, reshape])
def test_a_damaged_store_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(store(build(), tmp_path).file)
    with pytest.raises(ConfigError, match="delete that file"):
        StoredHidden.open(tmp_path, KEY)
    with pytest.raises(ConfigError, match="delete that file"):
        store(build(), tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_reference import batches, build, store

def dying():
    yield batches()[0]
    os.kill(os.getpid(), signal.SIGKILL)

store(build(), Path(sys.argv[1]), batches=dying())
"""


def test_a_killed_writer_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), here], check=False)
    assert killed.returncode == -9
    with pytest.raises(ConfigError, match="no stored vectors"):
        StoredHidden.open(tmp_path, KEY)
    stored = store(build(), tmp_path)
    assert torch.equal(stored.hidden(batches()[1]), expected(build(), batches()[1]))


def test_verification_finds_other_weights_and_other_data(tmp_path: Path) -> None:
    stored, batch = store(build(), tmp_path), batches()[1]

    def check(model: LanguageModel, batch: TokenBatch = batch) -> None:
        verify(stored, model, batch, device=CPU, precision=torch.float32)

    check(build().train())
    with pytest.raises(ConfigError, match="weight is not the reference's; delete"):
        check(build(7))
    changed = build()
    with torch.no_grad():
        changed.context.blocks[0].mlp.up.weight += 0.1
    with pytest.raises(ConfigError, match="is off by"):
        check(changed)
    other = batches()[0]
    swapped = TokenBatch(
        other.tokens, other.targets, other.positions, target_ids=other.target_ids.roll(1, 0)
    )
    with pytest.raises(ConfigError, match="is off by"):
        check(build(), swapped)
    tensors = load_file(stored.file)
    zeros = {**tensors, "hidden": torch.zeros_like(tensors["hidden"])}
    save_file(zeros, stored.file, {"key": json.dumps(KEY)})
    with pytest.raises(ConfigError, match="is off by"):
        verify(
            StoredHidden.open(tmp_path, KEY), build(), batch, device=CPU, precision=torch.float32
        )
