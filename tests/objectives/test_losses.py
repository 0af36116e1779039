"""The chunked cross-entropy against the formula, autograd and finite differences."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from foundling.models.batch import IGNORE
from foundling.models.token_rows import Head
from foundling.objectives.losses import (
    AnchoredLoss,
    anchored_cross_entropy,
    linear_cross_entropy,
    linear_log_probs,
)

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


def test_under_a_frozen_weight_the_hidden_vectors_learn_the_same() -> None:
    hidden, weight = torch.randn(9, 5), torch.randn(11, 5)
    targets = torch.randint(0, 11, (9,))
    found = []
    for frozen in (False, True):
        learned, head = hidden.clone().requires_grad_(), weight.clone().requires_grad_(not frozen)
        linear_cross_entropy(learned, head, targets, chunk_rows=4)[0].backward()
        assert (head.grad is None) == frozen
        found.append(learned.grad)
    assert found[0] is not None
    assert torch.equal(*found)


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


REFERENCE_DIM = 4


def anchor_inputs(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {
        "reference_hidden": torch.randn(ROWS, REFERENCE_DIM, dtype=dtype),
        "reference_weight": torch.randn(VOCAB, REFERENCE_DIM, dtype=dtype),
    }


def naive_anchored(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    reference_hidden: torch.Tensor,
    reference_weight: torch.Tensor,
    strength: float,
) -> AnchoredLoss:
    logs = (hidden @ weight.T).log_softmax(-1)
    theirs = (reference_hidden @ reference_weight.T).log_softmax(-1)
    due = targets != IGNORE
    kl = F.kl_div(theirs, logs, log_target=True, reduction="none").sum(-1) * due
    entropy = torch.distributions.Categorical(logits=logs).entropy() * due
    rows = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="none")
    return AnchoredLoss((rows + strength * kl).sum(), rows, kl, entropy)


def test_an_anchored_row_by_hand() -> None:
    """Policy (3/4, 1/4), reference (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2."""
    hidden = torch.tensor([[3.0, 1.0]]).log()
    loss = anchored_cross_entropy(
        hidden,
        torch.eye(2),
        torch.tensor([0]),
        reference_hidden=torch.zeros(1, 1),
        reference_weight=torch.ones(2, 1),
        strength=2.0,
    )
    kl = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    torch.testing.assert_close(loss.kl, kl[None])
    torch.testing.assert_close(loss.entropy, (torch.tensor(2.0).log() - kl)[None])
    torch.testing.assert_close(loss.total, torch.tensor(4 / 3).log() + 2 * kl)


@pytest.mark.parametrize("chunk_rows", [1, 4, 13, 100])
@pytest.mark.parametrize("strength", [0.0, 0.3, 7.0])
def test_the_anchored_loss_equals_autograd(chunk_rows: int, strength: float) -> None:
    hidden, weight, targets = inputs()
    anchor = anchor_inputs()
    loss = anchored_cross_entropy(
        hidden, weight, targets, **anchor, strength=strength, chunk_rows=chunk_rows
    )
    expected = naive_anchored(hidden, weight, targets, **anchor, strength=strength)
    for found, wanted in zip(loss, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert not any(part.requires_grad for part in loss[1:])
    found = torch.autograd.grad(3 * loss.total, (hidden, weight))
    wanted = torch.autograd.grad(3 * expected.total, (hidden, weight))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_gradcheck_of_the_anchored_loss() -> None:
    hidden, weight, targets = inputs()
    anchor = anchor_inputs()

    def loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return anchored_cross_entropy(
            hidden, weight, targets, **anchor, strength=0.7, chunk_rows=5
        ).total

    assert torch.autograd.gradcheck(loss, (hidden, weight))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_strength_zero_is_the_plain_loss_bit_for_bit(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(torch.float64 if dtype == torch.float64 else torch.float32)
    found = []
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        for anchor in ({}, anchor_inputs(hidden.dtype)):
            loss = anchored_cross_entropy(hidden, weight, targets, **anchor, chunk_rows=5)
            found.append([loss.total, loss.cross_entropy, loss.entropy])
        total, rows, _ = linear_cross_entropy(hidden, weight, targets, chunk_rows=5)
    found.append([total, rows, found[0][2]])
    for parts in found:
        parts += torch.autograd.grad(parts[0], (hidden, weight))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_the_kl_of_a_policy_to_itself_is_nothing() -> None:
    hidden, weight, targets = inputs()
    itself = {"reference_hidden": hidden.detach(), "reference_weight": weight.detach()}
    anchored = anchored_cross_entropy(hidden, weight, targets, **itself, strength=1e3)
    plain = anchored_cross_entropy(hidden, weight, targets)
    assert anchored.kl.abs().max() <= 1e-12
    found = torch.autograd.grad(anchored.total - plain.total, (hidden, weight))
    assert max(gradient.abs().max() for gradient in found) <= 1e-9  # of a strength of 1000


def test_ignored_rows_have_no_kl_even_when_extreme() -> None:
    hidden, weight, targets = inputs()
    anchor = anchor_inputs()
    expected = anchored_cross_entropy(hidden, weight, targets, **anchor, strength=1.0)
    with torch.no_grad():
        hidden[2], anchor["reference_hidden"][7] = 1e4, -1e4
    loss = anchored_cross_entropy(hidden, weight, targets, **anchor, strength=1.0)
    torch.testing.assert_close(loss.total, expected.total)
    loss.total.backward()
    assert loss.kl[2] == loss.kl[7] == loss.entropy[2] == 0
    assert not hidden.grad[[2, 7]].any()
    assert torch.isfinite(weight.grad).all()


def test_under_bf16_autocast_logarithms_and_sums_are_fp32() -> None:
    hidden, weight, targets = inputs(torch.float32)
    anchor = anchor_inputs(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = anchored_cross_entropy(hidden, weight, targets, **anchor, strength=0.5)
        logits = hidden @ weight.T
        theirs = anchor["reference_hidden"] @ anchor["reference_weight"].T
    assert logits.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in loss)
    logs, theirs = logits.float().log_softmax(-1), theirs.float().log_softmax(-1)
    kl = (logs.exp() * (logs - theirs)).sum(-1) * (targets != IGNORE)
    torch.testing.assert_close(loss.kl, kl.detach(), rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(loss.total, (hidden, weight))
    expected = naive_anchored(hidden, weight, targets, **anchor, strength=0.5)
    wanted = torch.autograd.grad(expected.total, (hidden, weight))
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


def test_half_a_reference_is_refused() -> None:
    hidden, weight, targets = inputs()
    anchor = anchor_inputs()
    for given in ({}, {"reference_hidden": anchor["reference_hidden"]}):
        with pytest.raises(ValueError, match="needs the reference's"):
            anchored_cross_entropy(hidden, weight, targets, **given, strength=1.0)


def test_soft_capped_logits_give_the_losses_and_gradients_written_out() -> None:
    cap = 1.5
    hidden, other = torch.randn(2, 9, 6, dtype=torch.float64)
    weight = torch.randn(11, 6, dtype=torch.float64)
    targets = torch.randint(11, (9,))
    targets[2] = IGNORE
    kept = targets >= 0

    def log_probs(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return (cap * torch.tanh(rows @ matrix.T / cap)).log_softmax(-1)

    def gradients(total: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(total, (hidden, weight))

    hidden.requires_grad_()
    weight.requires_grad_()
    plain = log_probs(hidden, weight)
    chosen = plain.gather(1, targets.clamp(min=0)[:, None])[:, 0] * kept
    reference = log_probs(other, weight.detach())
    kl = ((plain.exp() * (plain - reference)).sum(-1) * kept).sum()
    for found, expected in (
        (
            linear_cross_entropy(hidden, weight, targets, softcap=cap, chunk_rows=4)[0],
            -chosen.sum(),
        ),
        (
            anchored_cross_entropy(
                hidden,
                weight,
                targets,
                reference_hidden=other,
                reference_weight=weight.detach(),
                strength=0.7,
                softcap=cap,
                chunk_rows=4,
            ).total,
            -chosen.sum() + 0.7 * kl,
        ),
        (linear_log_probs(hidden, weight, targets, 4, softcap=cap).sum(), chosen.sum()),
    ):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            gradients(found), torch.autograd.grad(expected, (hidden, weight), retain_graph=True)
        )


def losses(hidden: torch.Tensor, head: Any, targets: torch.Tensor, softcap: float | None) -> Any:
    other = torch.full((VOCAB, DIM), 0.1, dtype=hidden.dtype).cumsum(0)
    anchored = anchored_cross_entropy(
        hidden, head, targets, reference_hidden=hidden.detach(), reference_weight=other,
        strength=0.4, softcap=softcap, chunk_rows=5,
    )  # fmt: skip
    plain, _, _ = linear_cross_entropy(
        hidden, head, targets, z_loss=0.2, softcap=softcap, chunk_rows=5
    )
    each = linear_log_probs(hidden, head, targets, chunk_rows=5, softcap=softcap)
    return plain, anchored.total, each.square().sum()


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("ids", [[4], [0, 3, 8]])
def test_learned_rows_are_those_of_the_matrix_and_get_its_gradient_there(
    ids: list[int], softcap: float | None
) -> None:
    hidden, weight, targets = inputs()
    matrix = weight.detach().clone()
    places, rows = torch.tensor(ids), weight.detach()[ids].clone().requires_grad_()
    matrix[ids] = 1e3  # what they stand in place of is never looked at
    found = losses(hidden, Head(matrix, places, rows), targets, softcap)
    wanted = losses(hidden, weight, targets, softcap)
    for ours, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
        to_hidden, to_rows = torch.autograd.grad(ours, (hidden, rows))
        hidden_expected, whole = torch.autograd.grad(expected, (hidden, weight))
        torch.testing.assert_close(to_hidden, hidden_expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(to_rows, whole[ids], rtol=1e-11, atol=1e-11)


def test_learned_rows_cost_no_second_matrix_and_no_gradient_of_it() -> None:
    """What the loss makes is smaller than the matrix of 20,000 rows by far."""
    hidden = torch.randn(8, 64, requires_grad=True)
    rows = torch.randn(2, 64, requires_grad=True)
    matrix, targets = torch.randn(20_000, 64), torch.arange(8)
    for loss in (
        lambda head: linear_cross_entropy(hidden, head, targets)[0],
        lambda head: anchored_cross_entropy(hidden, head, targets).total,
        lambda head: linear_log_probs(hidden, head, targets).sum(),
    ):
        with torch.profiler.profile(profile_memory=True) as seen:
            loss(Head(matrix, torch.tensor([5, 9]), rows)).backward()
        made = [event.self_cpu_memory_usage for event in seen.events()]
        assert max(made) < matrix.nbytes / 4
        assert rows.grad is not None
