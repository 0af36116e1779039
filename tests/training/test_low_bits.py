"""Weights in bf16 learn as fp32 weights do."""

import pytest
import torch

from foundling import models
from foundling.base.precision import hold
from foundling.models.language_model import LanguageModel
from foundling.training.low_bits import join, split
from foundling.training.optimizers import Optimizer, OptimizerSettings

KINDS = ("adamw", "muon")


def build(dtype: torch.dtype) -> LanguageModel:
    torch.manual_seed(0)
    model = models.build({"dim": 32, "num_heads": 2, "bias": True}, vocab_size=67, context=16)
    hold(model, torch.bfloat16)  # both begin at weights that bf16 can hold
    hold(model, dtype)
    return model


def give_gradients(model: LanguageModel, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=draw).bfloat16()
        parameter.grad = drawn.to(parameter.dtype)


def wholes(model: LanguageModel, optimizer: Optimizer) -> list[torch.Tensor]:
    return [
        join(p.data, optimizer.low_bits[p]) if p in optimizer.low_bits else p.data
        for p in model.parameters()
    ]


def test_splitting_and_joining_lose_nothing_and_round_to_the_nearest() -> None:
    draw = torch.Generator().manual_seed(1)
    some = torch.randn(5000, generator=draw) * 10 ** torch.randint(-30, 30, (5000,)).float()
    edges = torch.tensor([0.0, -0.0, 1.0, -1.0, 1 + 2**-8, -(1 + 2**-8), 1.0 - 2**-9, 3e38, -1e-45])
    for values in (some, edges):
        upper, lower = split(values)
        assert (upper.dtype, lower.dtype) == (torch.bfloat16, torch.int16)
        assert torch.equal(join(upper, lower).view(torch.int32), values.view(torch.int32))
        nearest = (values.bfloat16().float() - values).abs()
        assert torch.equal((upper.float() - values).abs(), nearest)


PATTERNS = [0x7FFFFFFF, 0x7F800001, 0x7FC00000, 0x7FFF8000, 0x7F808000]
"""Of numbers that are none: the highest, the lowest, the usual, and two in between."""


def test_what_is_not_finite_stays_so_in_both_halves() -> None:
    bits = torch.tensor([*PATTERNS, *(pattern - 2**31 for pattern in PATTERNS)], dtype=torch.int32)
    upper, lower = split(bits.view(torch.float32))
    assert upper.isnan().all()
    assert join(upper, lower).isnan().all()
    infinite = torch.tensor([torch.inf, -torch.inf])
    upper, lower = split(infinite)
    assert torch.equal(upper.float(), infinite)
    assert torch.equal(join(upper, lower), infinite)


@pytest.mark.parametrize("kind", KINDS)
def test_updates_are_those_of_fp32_weights_bit_for_bit(kind: str) -> None:
    settings = OptimizerSettings.parse({"kind": kind, "learning_rate": 1e-6})
    wide, narrow = build(torch.float32), build(torch.bfloat16)
    ours, theirs = Optimizer(narrow, settings), Optimizer(wide, settings)
    begun = [parameter.clone() for parameter in narrow.parameters()]
    for step in range(20):
        for model in (wide, narrow):
            give_gradients(model, step)
        measured = ours.step_measured(), theirs.step_measured()
        assert measured[0] == pytest.approx(measured[1], rel=1e-6)
    assert all(map(torch.equal, wholes(narrow, ours), wide.parameters()))
    nearest = [parameter.to(held.dtype) for parameter, held in
               zip(wide.parameters(), narrow.parameters(), strict=True)]  # fmt: skip
    assert all(map(torch.equal, narrow.parameters(), nearest))
    if kind == "adamw":  # steps of 1e-6 are far below what bf16 tells apart, and are not lost
        assert (begun[0] == narrow.embed.weight).float().mean() > 0.8
        assert (begun[0].float() == wholes(narrow, ours)[0]).float().mean() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_goes_on_where_it_was(kind: str) -> None:
    settings = OptimizerSettings.parse({"kind": kind, "learning_rate": 1e-6})
    whole, first, second = (build(torch.bfloat16) for _ in range(3))
    one, two, three = (Optimizer(model, settings) for model in (whole, first, second))
    for step in range(6):
        give_gradients(whole, step)
        one.step()
    for step in range(3):
        give_gradients(first, step)
        two.step()
    second.load_state_dict(first.state_dict())
    three.load_state(two.state())
    for step in range(3, 6):
        give_gradients(second, step)
        three.step()
    assert all(map(torch.equal, wholes(second, three), wholes(whole, one)))
    assert {key.split("/")[0] for key in one.state()} == {kind, "adamw", "low_bits"}
    two.load_state({})
    assert not any(bits.any() for bits in two.low_bits.values())


def test_the_gradients_norm_is_taken_in_fp32() -> None:
    model = build(torch.bfloat16)
    optimizer = Optimizer(model, OptimizerSettings(clip=1.0))
    give_gradients(model, 1)
    expected = torch.cat([p.grad.double().flatten() for p in model.parameters()]).norm() / 3
    assert optimizer.finish_gradients(3) == pytest.approx(expected.item(), rel=1e-5)
    clipped = torch.cat([p.grad.double().flatten() for p in model.parameters()]).norm()
    assert clipped.item() == pytest.approx(1.0, rel=1e-2)
