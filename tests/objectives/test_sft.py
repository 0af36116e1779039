"""Fine-tuning's loss against the naive formula over all logits."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.models.batch import ANCHOR, IGNORE, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import Sft
from foundling.objectives.contract import LossSum
from foundling.objectives.reference import FrozenModel

VOCAB, TIME, ROWS = 29, 10, 3
compiler_may_warn = pytest.mark.filterwarnings("ignore")  # what torch warns of itself


def build(seed: int = 0, dtype: torch.dtype = torch.float64) -> LanguageModel:
    torch.manual_seed(seed)
    settings = {"dim": 16, "num_layers": 2, "num_heads": 2}
    model = models.build(settings, vocab_size=VOCAB, context=TIME).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def batch() -> TokenBatch:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCAB, (ROWS, TIME + 1), generator=generator)
    targets = tokens[:, 1:].clone()
    targets[0, :6] = targets[1] = IGNORE
    return TokenBatch(tokens[:, :-1], targets, torch.arange(TIME).expand(ROWS, TIME))


def naive(policy: LanguageModel, reference: LanguageModel, strength: float) -> torch.Tensor:
    """Each position's loss, 0 where none is due."""
    given = batch()
    logs = policy.logits(policy(given.tokens, given.view)).log_softmax(-1)
    with torch.no_grad():
        theirs = reference.logits(reference(given.tokens, given.view)).log_softmax(-1)
    kl = (logs.exp() * (logs - theirs)).sum(-1)
    nll = -logs.gather(2, given.targets.clamp(min=0)[..., None])[..., 0]
    return (nll + strength * kl) * (given.targets != IGNORE)


def gradients(model: LanguageModel, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("strength", [0.0, 0.3, 5.0])
def test_loss_rows_and_gradient_are_the_formula(strength: float) -> None:
    policy, reference = build(), build(seed=7)
    expected = naive(policy, reference, strength)
    loss = Sft(strength, FrozenModel(reference))(policy, batch())
    torch.testing.assert_close(loss.total, expected.sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss.rows, expected.detach().sum(1), rtol=1e-12, atol=1e-12)
    assert int(loss.count) == 14
    found, wanted = gradients(policy, loss.total), gradients(policy, expected.sum())
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    parts = loss.metrics
    assert parts["kl"] > 1
    total = parts["cross_entropy"] + strength * parts["kl"]
    torch.testing.assert_close(total, loss.total.detach())


def bits(loss: LossSum, model: LanguageModel) -> list[torch.Tensor]:
    return [loss.total.detach(), loss.rows, *gradients(model, loss.total)]


@compiler_may_warn
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_strength_zero_a_reference_changes_no_bit(compiled: bool, dtype: torch.dtype) -> None:
    policy, reference = build(dtype=torch.float32), build(seed=7, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        alone = Sft(compiled=compiled)(policy, batch())
        measured = Sft(0.0, FrozenModel(reference), compiled=compiled)(policy, batch())
    assert "kl" not in alone.metrics
    assert measured.metrics["kl"] > 1
    for one, other in zip(bits(alone, policy), bits(measured, policy), strict=True):
        assert torch.equal(one, other)


@compiler_may_warn
@pytest.mark.slow
def test_compiled_it_gives_the_same() -> None:
    policy, reference = build(), build(seed=7)
    plain = Sft(0.5, FrozenModel(reference))(policy, batch())
    compiled = Sft(0.5, FrozenModel(reference), compiled=True)(policy, batch())
    torch.testing.assert_close(compiled.total, plain.total)
    torch.testing.assert_close(compiled.rows, plain.rows)
    torch.testing.assert_close(compiled.metrics, plain.metrics)
    torch.testing.assert_close(gradients(policy, compiled.total), gradients(policy, plain.total))


def test_at_the_reference_the_anchor_is_nothing() -> None:
    policy = build()
    reference = FrozenModel(build())
    anchored, plain = Sft(3.0, reference)(policy, batch()), Sft()(policy, batch())
    assert abs(anchored.metrics["kl"]) < 1e-12
    found, wanted = gradients(policy, anchored.total), gradients(policy, plain.total)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_a_small_step_from_the_reference_costs_half_its_fisher_length() -> None:
    """KL(θ + ε) is quadratic near the reference: twice as far costs four times as much."""
    direction = [torch.randn_like(p) for p in build().parameters()]
    costs = []
    for size in (1e-4, 2e-4):
        policy = build()
        with torch.no_grad():
            for parameter, change in zip(policy.parameters(), direction, strict=True):
                parameter += size * change
        costs.append(Sft(0.0, FrozenModel(build()))(policy, batch()).metrics["kl"].item())
    assert costs[0] > 0
    assert costs[1] / costs[0] == pytest.approx(4, rel=1e-2)


def nothing_due() -> TokenBatch:
    given = batch()
    return TokenBatch(given.tokens, torch.full_like(given.targets, IGNORE), given.positions)


@pytest.mark.parametrize("make", [lambda: Sft(), lambda: Sft(1.0, FrozenModel(build(seed=7)))])
def test_a_batch_without_targets_has_loss_zero_and_a_gradient(make: Callable[[], Sft]) -> None:
    policy = build()
    loss = make()(policy, nothing_due())
    assert loss.total == 0
    assert loss.count == 0
    assert torch.equal(loss.rows, torch.zeros(ROWS, dtype=torch.float64))
    loss.total.backward()
    assert all(not p.grad.any() for p in policy.parameters() if p.grad is not None)


def test_no_gradient_reaches_the_reference() -> None:
    reference = build(seed=7)
    Sft(1.0, FrozenModel(reference))(build(), batch()).total.backward()
    assert all(p.grad is None for p in reference.parameters())


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_strength_below_zero_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="from 0 up"):
        Sft(strength, FrozenModel(build()))


def test_an_anchor_without_a_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a reference"):
        Sft(0.1)


def test_text_without_targets_has_the_kl_alone() -> None:
    model, reference, given = build(), build(seed=7), batch()
    anchored = replace(given, targets=torch.where(given.targets == IGNORE, ANCHOR, given.targets))
    loss = Sft(0.5, FrozenModel(reference))(model, anchored)
    loss.total.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    log_p = model.logits(model(given.tokens, given.view)).log_softmax(-1)
    log_r = reference.logits(reference(given.tokens, given.view)).log_softmax(-1).detach()
    kl = (log_p.exp() * (log_p - log_r)).sum(-1)
    due = given.targets >= 0
    index = given.targets.clamp(min=0)[..., None]
    expected = -log_p.gather(-1, index)[..., 0][due].sum() + 0.5 * kl.sum()
    expected.backward()
    torch.testing.assert_close(loss.total.detach(), expected.detach())
    torch.testing.assert_close(loss.metrics["kl"], kl[due].sum().detach())
    torch.testing.assert_close(loss.metrics["text_kl"], kl[~due].sum().detach())
    assert int(loss.count) == int(due.sum())
    for ours, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-9, atol=1e-12)
