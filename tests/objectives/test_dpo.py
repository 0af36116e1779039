"""Preference losses: worked maths, a naive oracle, symmetries, options, reference."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from foundling import models
from foundling.base.config import ConfigError
from foundling.models.adapters import AdapterSettings, adapters_of, add_adapters
from foundling.models.batch import IGNORE, PreferenceBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import Dpo
from foundling.objectives.dpo import USES, DpoSettings, at_the_reference, pair_loss
from foundling.objectives.losses import linear_log_probs
from foundling.objectives.reference import DisabledAdapter, FrozenModel
from foundling.objectives.reference_log_probs import (
    LiveLogProbs,
    ReferenceLogProbs,
    StoredLogProbs,
    store_log_probs,
    verify_log_probs,
)

VOCAB, CPU = 19, torch.device("cpu")
SIGMOID = math.log1p(math.exp(-0.3))  # −log σ(0.3)
OTHER = math.log1p(math.exp(0.3))  # −log σ(−0.3)


def build(seed: int = 0, dtype: torch.dtype = torch.float64) -> LanguageModel:
    torch.manual_seed(seed)
    settings = {"dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.2}
    model = models.build(settings, vocab_size=VOCAB, context=12).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.to(dtype)


PAIRS = [([1, 2, 3], [4, 5], [6]), ([7], [8, 9, 10], [8, 11, 2, 3]), ([5, 5], [4], [3])]


def batch(pairs: list[tuple[list[int], list[int], list[int]]] | None = None) -> PreferenceBatch:
    """A pair in each row, every answer with a prompt of its own: the plain way, by hand."""
    rows, time = PAIRS if pairs is None else pairs, 16
    found = {k: torch.zeros(len(rows), time, dtype=torch.long) for k in ("tokens", "positions")}
    found |= {k: torch.full((len(rows), time), -1) for k in ("answers",)}
    found["targets"] = torch.full((len(rows), time), IGNORE)
    found["documents"] = torch.full((len(rows), time), 2)
    for row, (prompt, *answers) in enumerate(rows):
        at = 0
        for side, answer in enumerate(answers):
            whole = prompt + answer
            stop = at + len(whole) - 1
            found["tokens"][row, at:stop] = torch.tensor(whole[:-1])
            found["positions"][row, at:stop] = torch.arange(len(whole) - 1)
            found["documents"][row, at:stop] = side
            found["targets"][row, stop - len(answer) : stop] = torch.tensor(answer)
            found["answers"][row, stop - len(answer) : stop] = side
            at = stop
    return PreferenceBatch(**found, pair_ids=torch.arange(len(rows))[:, None])


def naive(model: LanguageModel) -> torch.Tensor:
    """The log-probability of each answer of PAIRS over all logits of a text of its own."""
    found = []
    for prompt, *answers in PAIRS:
        for answer in answers:
            tokens = torch.tensor([prompt + answer])
            logs = model.logits(model(tokens)).log_softmax(-1)[0]
            places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
            each = [logs[p, t] for p, t in zip(places, answer, strict=True)]
            found.append(torch.stack(each).sum())
    return torch.stack(found).view(-1, 2)


def live(seed: int = 7) -> LiveLogProbs:
    return LiveLogProbs(FrozenModel(build(seed)))


# ------------------------------------------------------------------ worked maths


@pytest.mark.parametrize(
    ("settings", "expected"),
    [  # Δ = 3 and β = 0.1
        ({}, SIGMOID),
        ({"label_smoothing": 0.2}, 0.8 * SIGMOID + 0.2 * OTHER),
        ({"loss": "ipo"}, (3 - 5) ** 2),
        ({"loss": "hinge"}, 0.7),
        ({"loss": "robust", "label_smoothing": 0.2}, (0.8 * SIGMOID - 0.2 * OTHER) / 0.6),
        ({"loss": "robust"}, (0.9 * SIGMOID - 0.1 * OTHER) / 0.8),
        ({"loss": "normalised", "beta": 0.1}, SIGMOID),
        ({"loss": "simpo", "gamma": 0.6}, OTHER),
    ],
)
def test_the_loss_of_a_pair_as_worked_by_hand(settings: dict[str, object], expected: float) -> None:
    given = DpoSettings.parse({"beta": 0.1, **settings})
    found = pair_loss(given, torch.tensor([[3.0]], dtype=torch.float64))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_hinge_beyond_its_margin_costs_nothing() -> None:
    assert pair_loss(DpoSettings(loss="hinge"), torch.tensor([[11.0]])).item() == 0


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("sigmoid", math.log(2)), ("robust", math.log(2)), ("normalised", math.log(2)),
     ("ipo", 25.0), ("hinge", 1.0)],
)  # fmt: skip
def test_at_the_reference_each_loss_is_what_it_must_be(loss: str, expected: float) -> None:
    settings = DpoSettings.parse({"loss": loss})
    reference = None if loss == "simpo" else live(0)
    found = Dpo(settings, reference)(build(), batch())
    if loss == "normalised":
        assert at_the_reference(settings) == pytest.approx(expected)
    torch.testing.assert_close(found.total / 3, torch.tensor(expected).double(), rtol=1e-6, atol=0)
    assert found.metrics["margin"].abs() < 1e-12


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("loss", USES)
def test_loss_metrics_and_gradient_are_those_of_the_naive_formula(
    loss: str, per_token: bool
) -> None:
    values: dict[str, object] = {"loss": loss, "nll": 0.3 if per_token else 0.0}
    if loss == "ipo":
        values["lengths"] = "mean" if per_token else "sum"
    settings = DpoSettings.parse(values)
    policy, reference = build(), build(7)
    found = Dpo(settings, live() if settings.has_reference else None)(policy, batch())
    logs = naive(policy)
    changes = logs - naive(reference).detach() if settings.has_reference else logs
    sizes = torch.tensor([[2, 1], [3, 4], [1, 1]])
    used = changes / sizes if settings.per_token() else changes
    delta = used[:, 0] - used[:, 1]
    nll = -logs[:, 0] / sizes[:, 0]
    expected = (pair_loss(settings, delta[:, None])[:, 0] + settings.nll * nll).sum()
    torch.testing.assert_close(found.total, expected, rtol=1e-12, atol=1e-12)
    parameters = list(policy.parameters())
    ours, theirs = (torch.autograd.grad(x, parameters) for x in (found.total, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    metrics = {name: value.item() for name, value in found.metrics.items()}
    beta = settings.resolved().beta
    assert metrics["accuracy"] == (delta > 0).sum()
    assert metrics["margin"] == pytest.approx(beta * delta.sum().item())
    assert metrics["ranking"] == (logs[:, 0] > logs[:, 1]).sum()
    assert (metrics["chosen_length"], metrics["rejected_length"]) == (6, 6)
    assert metrics["longer"] == 1.5
    assert metrics["nll"] == pytest.approx(nll.sum().item())
    assert ("chosen_change" in metrics) == settings.has_reference
    if settings.has_reference:
        assert metrics["chosen_change"] == pytest.approx(changes[:, 0].sum().item())
        assert metrics["rejected_change"] == pytest.approx(changes[:, 1].sum().item())


def test_without_gradients_the_same_and_the_entropy_too() -> None:
    policy = build()
    objective = Dpo(reference=live())
    trained = objective(policy, batch())
    with torch.no_grad():
        measured = objective(policy, batch())
        given = batch()
        logs = policy.logits(policy(given.tokens, given.view)).log_softmax(-1)
        entropy = -(logs.exp() * logs).sum(-1)[given.targets != IGNORE].sum()
    torch.testing.assert_close(measured.total, trained.total.detach())
    torch.testing.assert_close(measured.metrics.pop("entropy"), entropy)
    torch.testing.assert_close(measured.metrics, trained.metrics)


# ------------------------------------------------------------------ properties


def test_swapped_sides_negate_the_margins() -> None:
    swapped = [(prompt, rejected, chosen) for prompt, chosen, rejected in PAIRS]
    objective, policy = Dpo(reference=live()), build()
    one, other = objective(policy, batch()), objective(policy, batch(swapped))
    torch.testing.assert_close(one.metrics["margin"], -other.metrics["margin"])
    assert one.metrics["accuracy"] + other.metrics["accuracy"] == 3
    assert one.metrics["chosen_change"] == pytest.approx(other.metrics["rejected_change"])


def test_tokens_that_both_answers_begin_with_leave_the_margin_alone() -> None:
    prompt, chosen, rejected = PAIRS[1]
    assert chosen[0] == rejected[0]
    moved = [([*prompt, chosen[0]], chosen[1:], rejected[1:])]
    objective, policy = Dpo(reference=live()), build()
    one, other = objective(policy, batch([PAIRS[1]])), objective(policy, batch(moved))
    torch.testing.assert_close(one.metrics["margin"], other.metrics["margin"])


def test_a_tie_is_wrong() -> None:
    objective = Dpo(reference=live(0))
    same = batch([([1], [2, 3], [2, 3])])
    assert objective(build(7), same).metrics["accuracy"] == 0


def test_a_batch_without_pairs_has_loss_zero_and_a_gradient() -> None:
    given, policy = batch(), build()
    empty = replace(
        given,
        targets=torch.full_like(given.targets, IGNORE),
        answers=torch.full_like(given.answers, -1),
        pair_ids=torch.full_like(given.pair_ids, -1),
    )
    for loss in ("sigmoid", "ipo"):
        found = Dpo(DpoSettings.parse({"loss": loss}), live())(policy, empty)
        assert (found.total.item(), int(found.count)) == (0, 0)
        found.total.backward()


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "hinge", "label_smoothing": 0.1}, r"does not use label_smoothing \(sigmoid, rob"),
        ({"loss": "sigmoid", "lengths": "mean"}, r"does not use lengths \(ipo do\)"),
        ({"loss": "ipo", "gamma": 1.0}, r"does not use gamma \(simpo do\)"),
        ({"loss": "robust", "label_smoothing": 0.0}, 'is "sigmoid"'),
        ({"beta": 0}, "beta"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"nll": -1}, "nll"),
        ({"bta": 1}, 'Did you mean "beta"'),
        ({"loss": "dpo"}, "loss"),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DpoSettings.parse(values)


def test_a_reference_is_there_exactly_where_it_is_used() -> None:
    with pytest.raises(ConfigError, match="needs a reference"):
        Dpo()
    with pytest.raises(ConfigError, match="uses no reference"):
        Dpo(DpoSettings(loss="simpo"), live())


def test_resolved_settings_say_every_number() -> None:
    assert DpoSettings(loss="simpo").resolved().values() == {
        "loss": "simpo", "beta": 2.0, "label_smoothing": None, "lengths": None, "gamma": 1.0,
        "nll": 0.0,
    }  # fmt: skip
    again = DpoSettings.parse(DpoSettings(loss="robust").resolved().values())
    assert again.label_smoothing == 0.1


# ------------------------------------------------------------------ log-probabilities


@pytest.mark.parametrize("chunk", [1, 3, 100, None])
def test_log_probs_and_their_gradients_are_those_of_all_logits(chunk: int | None) -> None:
    hidden = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(VOCAB, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([3, IGNORE, 0, 18, 3, IGNORE, 7])
    counts = torch.randn(7, dtype=torch.float64)
    found = linear_log_probs(hidden, weight, targets, chunk)
    logs = (hidden @ weight.T).log_softmax(-1)
    expected = logs.gather(1, targets.clamp(min=0)[:, None])[:, 0] * (targets >= 0)
    torch.testing.assert_close(found, expected)
    for x, y in zip(
        torch.autograd.grad((found * counts).sum(), (hidden, weight)),
        torch.autograd.grad((expected * counts).sum(), (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(x, y)
    assert torch.autograd.gradcheck(
        lambda h, w: linear_log_probs(h, w, targets, chunk), (hidden, weight)
    )


def test_log_probs_in_bf16_are_summed_in_fp32_and_frozen_weights_get_no_gradient() -> None:
    hidden = torch.randn(7, 32, requires_grad=True)
    weight, targets = torch.randn(VOCAB, 32), torch.arange(7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_log_probs(hidden, weight, targets, 3)
    assert found.dtype == torch.float32
    logits = (hidden.bfloat16() @ weight.bfloat16().T).float()
    torch.testing.assert_close(found, logits.log_softmax(-1)[torch.arange(7), targets])
    found.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_no_logits_are_kept_for_the_backward_pass() -> None:
    hidden, weight = torch.randn(64, 4, requires_grad=True), torch.randn(1000, 4)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        linear_log_probs(hidden, weight, torch.zeros(64, dtype=torch.long), 8)
    assert max(kept) <= weight.numel()


# ------------------------------------------------------------------ the reference

KEY = {"weights": "abc", "pairs": "def", "torch": torch.__version__}


def store(folder: Path, **changes: object) -> StoredLogProbs:
    values = {"model": build(7, torch.float32), "batches": [batch()], "num_pairs": 3, "key": KEY}
    values |= {"folder": folder, "device": CPU, "precision": torch.float32, **changes}
    return store_log_probs(**values)  # type: ignore[arg-type]


def test_stored_log_probs_are_the_live_ones(tmp_path: Path) -> None:
    stored = store(tmp_path)
    assert isinstance(stored, ReferenceLogProbs)
    assert isinstance(live(), ReferenceLogProbs)
    found = stored.log_probs(batch()).double()
    torch.testing.assert_close(found, naive(build(7)).detach()[:, None], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(live().log_probs(batch()), naive(build(7)).detach()[:, None])
    padded = replace(batch(), pair_ids=torch.tensor([[2], [-1], [0]]))
    again = stored.log_probs(padded)
    assert torch.equal(
        again[:, 0], torch.stack((stored.values[2], torch.zeros(2), stored.values[0]))
    )


def test_a_store_is_computed_once_and_for_its_key_alone(tmp_path: Path) -> None:
    first = store(tmp_path)
    calls: list[tuple[int, int]] = []
    again = store(tmp_path, batches=[], progress=lambda *done: calls.append(done))
    assert torch.equal(first.values, again.values)
    assert not calls
    other = store(tmp_path, key={**KEY, "weights": "x"}, model=build(8, torch.float32))
    assert not torch.equal(other.values, first.values)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ConfigError, match="no stored log-probabilities"):
        StoredLogProbs.open(tmp_path, {"weights": "y"})
    with pytest.raises(ConfigError, match="holds 3 pairs where there are 4"):
        store(tmp_path, num_pairs=4)


def test_batches_that_do_not_hold_every_pair_store_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 of 4 pairs"):
        store(tmp_path, num_pairs=4)
    with pytest.raises(ValueError, match="up to 2 among 2"):
        store(tmp_path, num_pairs=2)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="must be those it was made from"):
        store(tmp_path).log_probs(replace(batch(), pair_ids=torch.tensor([[0], [1], [9]])))


Damage = Callable[[Path], None]


def rewritten(change: Callable[[torch.Tensor], torch.Tensor], key: dict[str, str]) -> Damage:
    def damage(file: Path) -> None:
        with safe_open(file, framework="pt") as opened:
            values = opened.get_tensor("log_probs")
        save_file({"log_probs": change(values)}, file, {"key": json.dumps(key)})

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-3]), "cannot be read"),
        (lambda file: file.write_bytes(b""), "cannot be read"),
        (rewritten(lambda x: x / 0, KEY), "two finite numbers"),
        (rewritten(lambda x: x[:, :1].contiguous(), KEY), "two finite numbers"),
        (rewritten(lambda x: x, {"weights": "z"}), "of another key"),
    ],
)
def test_a_damaged_store_is_refused(tmp_path: Path, damage: Damage, message: str) -> None:
    damage(store(tmp_path).file)
    with pytest.raises(ConfigError, match=message):
        store(tmp_path)


def test_a_store_of_another_model_does_not_pass_the_check(tmp_path: Path) -> None:
    stored = store(tmp_path)
    arguments = {"batches": [batch()], "device": CPU, "precision": torch.float32}
    model = build(7, torch.float32).train()
    verify_log_probs(stored, model, **arguments)  # type: ignore[arg-type]
    assert model.training
    with pytest.raises(ConfigError, match="stored log-probabilities of pair"):
        verify_log_probs(stored, build(8, torch.float32), **arguments)  # type: ignore[arg-type]


def test_without_its_adapters_the_policy_is_the_reference() -> None:
    policy = build()
    add_adapters(policy, AdapterSettings(rank=2), seed=1)
    policy.double()
    with torch.no_grad():
        for module in adapters_of(policy).values():
            module.lora_b += 0.3 * torch.randn_like(module.lora_b)
    inside, beside = (LiveLogProbs(r) for r in (DisabledAdapter(policy), FrozenModel(build())))
    torch.testing.assert_close(inside.log_probs(batch()), beside.log_probs(batch()))
    one, other = (Dpo(reference=reference)(policy, batch()) for reference in (inside, beside))
    assert one.metrics["margin"].abs() > 1e-3
    torch.testing.assert_close(one.total, other.total)
    one.total.backward()
