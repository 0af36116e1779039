"""The chunked cross-entropy against the formula, autograd and finite differences."""

import pytest
import torch
import torch.nn.functional as F

from foundling.batch import IGNORE
from foundling.objectives.losses import linear_cross_entropy

ROWS, DIM, VOCAB = 13, 6, 9


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden = torch.randn(ROWS, DIM, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCAB, DIM, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, VOCAB, (ROWS,))
    targets[[2, 7]] = IGNORE
    return hidden, weight, targets


def naive(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, z_loss: float
) -> torch.Tensor:
    logits = hidden @ weight.T
    lse = logits.logsumexp(-1)[targets != IGNORE]
    loss = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return loss + z_loss * lse.square().sum()


def test_two_rows_by_hand() -> None:
    """Logits (ln 3, 0): the target 0 has probability 3/4; logits (0, 0): one half."""
    hidden = torch.tensor([[torch.tensor(3.0).log(), 0.0], [0.0, 0.0]])
    total, rows, lse = linear_cross_entropy(hidden, torch.eye(2), torch.tensor([0, 1]))
    torch.testing.assert_close(rows, torch.tensor([4 / 3, 2.0]).log())
    torch.testing.assert_close(lse, torch.tensor([4.0, 2.0]).log())
    torch.testing.assert_close(total, torch.tensor(8 / 3).log())


@pytest.mark.parametrize("chunk_rows", [1, 4, 13, 100])
@pytest.mark.parametrize("z_loss", [0.0, 0.3])
def test_loss_and_gradient_equal_autograd(chunk_rows: int, z_loss: float) -> None:
    hidden, weight, targets = inputs()
    total, _, _ = linear_cross_entropy(
        hidden, weight, targets, z_loss=z_loss, chunk_rows=chunk_rows
    )
    expected = naive(hidden, weight, targets, z_loss)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad(3 * total, (hidden, weight))
    wanted = torch.autograd.grad(3 * expected, (hidden, weight))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
def test_gradcheck(z_loss: float) -> None:
    hidden, weight, targets = inputs()

    def loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy(hidden, weight, targets, z_loss=z_loss, chunk_rows=5)[0]

    assert torch.autograd.gradcheck(loss, (hidden, weight))


def test_ignored_rows_count_nothing_even_when_extreme() -> None:
    hidden, weight, targets = inputs()
    with torch.no_grad():
        hidden[2] = 1e4
    total, rows, _ = linear_cross_entropy(hidden, weight, targets, z_loss=0.1)
    total.backward()
    assert rows[2] == 0
    assert torch.equal(hidden.grad[2], torch.zeros(DIM, dtype=torch.float64))
    assert torch.isfinite(weight.grad).all()


def test_without_gradients_none_are_worked_out() -> None:
    hidden, weight, targets = inputs()
    with torch.no_grad():
        total, _, _ = linear_cross_entropy(hidden, weight, targets)
    assert not total.requires_grad
    torch.testing.assert_close(total, naive(hidden, weight, targets, 0.0).detach())


def test_bf16_inputs_are_summed_in_fp32() -> None:
    hidden, weight, targets = (x.detach() for x in inputs(torch.float32))
    low = (hidden.bfloat16(), weight.bfloat16(), targets)
    total, rows, _ = linear_cross_entropy(*low)
    logits = (low[0] @ low[1].T).float()
    expected = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(total, expected.sum())


def test_large_logits_stay_finite() -> None:
    hidden = torch.full((2, 2), 1e4, requires_grad=True)
    total, _, _ = linear_cross_entropy(hidden, torch.eye(2), torch.tensor([0, 1]))
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(hidden.grad).all()
