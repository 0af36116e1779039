"""KTO: worked maths, where the gradient goes, what the baseline is."""

import math

import pytest
import torch
from test_dpo import PAIRS, batch, build, live, naive

from foundling.objectives.kto import Kto, KtoSettings, baseline


def test_the_baseline_is_the_mean_of_a_row_and_never_below_0() -> None:
    gains = torch.tensor([[1.0, 3.0], [-1.0, -3.0], [5.0, 9.0]])
    there = torch.tensor([[True, True], [True, True], [True, False]])
    assert baseline(gains, there).tolist() == [[2.0], [0.0], [5.0]]


def test_the_loss_as_worked_by_hand() -> None:
    policy, labels = build(), torch.tensor([True, False, True])
    settings = KtoSettings(beta=0.5, desirable=1.2, undesirable=0.7)
    found = Kto(settings, live(), labels)(policy, batch())
    gains = (naive(policy) - naive(build(7))).tolist()
    expected, right = [], 0
    for (own, mismatched), good in zip(gains, labels.tolist(), strict=True):
        signed = 0.5 * (own - max(0.0, mismatched)) * (1 if good else -1)
        expected.append((1.2 if good else 0.7) * (1 - 1 / (1 + math.exp(-signed))))
        right += signed > 0
    assert found.rows.tolist() == pytest.approx(expected)
    assert found.total.item() == pytest.approx(sum(expected))
    assert found.metrics["accuracy"].item() == right
    assert found.metrics["good"].item() == 2
    assert int(found.count) == len(PAIRS)


def test_good_answers_are_pushed_up_bad_ones_down_and_the_baseline_not_at_all() -> None:
    policy, log_probs = build(), naive(build()).detach()
    for good in (True, False):
        loss = Kto(KtoSettings(), live(), torch.full((3,), good))(policy, batch())
        gradients = torch.autograd.grad(loss.total, list(policy.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(policy.parameters(), gradients, strict=True):
                parameter -= 1e-3 * gradient
        moved = (naive(policy) - log_probs)[:, 0].sum().item()
        assert (moved > 0) == good
        policy = build()


def test_at_the_reference_nothing_has_gained() -> None:
    loss = Kto(KtoSettings(), live(), torch.tensor([True, False, True]))(build(7), batch())
    assert loss.total.item() == pytest.approx(3 * 0.5)
    assert loss.metrics["margin"].item() == pytest.approx(0, abs=1e-12)
    assert loss.metrics["kl_estimate"].item() == pytest.approx(0, abs=1e-12)
