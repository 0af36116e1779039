"""What every rung and every objective must hold, looped over the tables."""

from dataclasses import replace

import pytest
import torch

from foundling import models
from foundling.models import RUNGS
from foundling.models.batch import (
    IGNORE,
    Batch,
    BatchView,
    PreferenceBatch,
    TokenBatch,
    whole_document,
)
from foundling.models.language_model import LanguageModel
from foundling.objectives import Dpo, Kto, Objective, Pretrain, Sft
from foundling.objectives.kto import KtoSettings
from foundling.objectives.reference import FrozenModel
from foundling.objectives.reference_log_probs import LiveLogProbs

VOCAB, TIME = 23, 12
VARIANTS: dict[str, dict[str, object]] = {
    **{rung: {"rung": rung} for rung in RUNGS},
    "bag_of_words, strict": {"rung": "bag_of_words", "last_word": False},
    "finite_lag of 1": {"rung": "finite_lag", "lag": 1},
    "transformer, window": {"rung": "transformer", "window": 3},
    "transformer, grouped": {"rung": "transformer", "num_kv_heads": 2},
    "transformer, learned": {"rung": "transformer", "positions": "learned", "norm": "layernorm"},
    "transformer, sinusoidal": {"rung": "transformer", "positions": "sinusoidal", "mlp": "gelu"},
    "transformer, no positions": {"rung": "transformer", "positions": "none", "mlp": "relu2"},
    "transformer, biases": {"rung": "transformer", "bias": True, "mlp": "gelu_tanh"},
    "transformer, no residual": {"rung": "transformer", "residual": False},
    "transformer, no norm": {"rung": "transformer", "norm": "none", "qk_norm": False},
    "transformer, untied": {"rung": "transformer", "tied": False, "dropout": 0.5},
    "transformer, four norms, caps": {
        "rung": "transformer", "norm_placement": "both", "norm_unit_offset": True,
        "mlp": "geglu_tanh", "embed_scale": 4.0, "attention_scale": 0.3,
        "attention_softcap": 1.0, "logit_softcap": 3.0, "window": 3, "full_layers": [1],
        "window_rope_theta": 100.0,
    },
    "transformer, post-norm": {
        "rung": "transformer", "norm_placement": "post", "qk_norm_width": "whole",
        "residual_scale": 0.5, "logit_divisor": 2.0, "output_bias": True,
    },
    "transformer, parallel, some turn": {
        "rung": "transformer", "parallel": True, "rope_fraction": 0.5, "nope_layers": [1],
        "norm": "layernorm", "mlp": "geglu",
    },
    "transformer, long": {
        "rung": "transformer",
        "rope_scaling": {
            "type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [1.0, 8.0],
            "original_context": TIME, "attention_factor": 1.2,
        },
    },
    "transformer, yarn": {
        "rung": "transformer", "rope_scaling": {"type": "yarn", "factor": 2.0,
        "original_context": 6},
    },
}  # fmt: skip

every_model = pytest.mark.parametrize("name", VARIANTS)


def build(name: str, dtype: torch.dtype = torch.float64) -> LanguageModel:
    torch.manual_seed(0)
    values = {"dim": 16, **VARIANTS[name]}
    if values["rung"] == "transformer":
        values = {"num_layers": 2, "num_heads": 4, **values}
    model = models.build(values, vocab_size=VOCAB, context=TIME).to(dtype).eval()
    with torch.no_grad():  # away from an initialisation that could hide a fault
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def some_tokens(batch: int = 3, time: int = TIME) -> torch.Tensor:
    return torch.randint(0, VOCAB, (batch, time), generator=torch.Generator().manual_seed(1))


def logits_of(model: LanguageModel, tokens: torch.Tensor, view: BatchView | None = None):
    return model.logits(model.hidden(tokens, view))


@every_model
def test_no_logit_knows_a_later_token(name: str) -> None:
    model, tokens = build(name), some_tokens()
    before = logits_of(model, tokens)
    for place in range(TIME):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % VOCAB
        after = logits_of(model, changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


@every_model
@pytest.mark.parametrize("portions", [[1] * TIME, [5, 1, 6], [TIME]])
def test_streaming_equals_the_whole_sequence(name: str, portions: list[int]) -> None:
    model, tokens = build(name), some_tokens()
    whole = logits_of(model, tokens)
    state = model.new_state(len(tokens), TIME)
    parts = [model.hidden(part, state=state) for part in tokens.split(portions, dim=1)]
    assert state.length == TIME
    torch.testing.assert_close(model.logits(torch.cat(parts, 1)), whole, rtol=0, atol=1e-10)


@every_model
def test_packed_documents_do_not_see_each_other(name: str) -> None:
    model, tokens = build(name), some_tokens(2)
    lengths = (5, 4, TIME - 9)
    positions = torch.cat([torch.arange(length) for length in lengths]).expand(2, TIME)
    numbers = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths)).expand(2, TIME)
    packed = logits_of(model, tokens, BatchView(positions, numbers))
    alone = [logits_of(model, part) for part in tokens.split(lengths, dim=1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=0, atol=1e-10)


@every_model
def test_vectors_at_some_places_and_their_gradients_are_those_of_the_whole(name: str) -> None:
    model, tokens = build(name), some_tokens()
    view, places = whole_document(tokens), torch.tensor([0, 3, TIME - 1, TIME + 2, TIME + 2])
    weights = some_tokens(len(places), model.unembed.in_features).to(torch.float64)
    picked = [model.at(tokens, view, places), model.hidden(tokens).flatten(0, 1)[places]]
    torch.testing.assert_close(*picked, rtol=0, atol=1e-12)
    parameters = [p for key, p in model.named_parameters() if "unembed" not in key]
    grads = [torch.autograd.grad((one * weights).sum(), parameters) for one in picked]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


@every_model
def test_a_model_is_rebuilt_from_its_spec(name: str) -> None:
    model = build(name)
    twin = models.rebuild(model.spec).to(torch.float64).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(logits_of(twin, some_tokens()), logits_of(model, some_tokens()))


def token_batch(rows: int) -> TokenBatch:
    tokens = some_tokens(rows, TIME + 1)
    targets = tokens[:, 1:].clone()
    targets[0, :7] = IGNORE  # uneven counts of targets betray a mean of means
    return TokenBatch(tokens[:, :-1], targets, torch.arange(TIME).expand(rows, TIME))


def preference_batch(rows: int) -> PreferenceBatch:
    """Two pairs in each row but the first, which has one: uneven counts betray a mean of means.

    A pair is a prompt of 2 tokens, which stands once, and answers of 1 and 2 or of 2 and 1.
    """
    tokens = some_tokens(rows, TIME)
    positions = torch.tensor([0, 1, 1, 2, 0, 1, 2, 1, 0, 0, 0, 0]).expand(rows, TIME).clone()
    until = torch.tensor([4, 2, 4, 4, 8, 7, 7, 8, 12, 12, 12, 12]).expand(rows, TIME).clone()
    documents = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]).expand(rows, TIME).clone()
    answers = torch.tensor([-1, 0, 1, 1, -1, 2, 2, 3, -1, -1, -1, -1]).expand(rows, TIME).clone()
    answers[0, 4:] = -1
    tokens[:, 2], tokens[:, 7] = tokens[:, 1], tokens[:, 5]  # the prompt's last token, once more
    targets = torch.where(answers < 0, IGNORE, some_tokens(rows, TIME).flip(0))
    pair_ids = torch.arange(2 * rows).view(rows, 2)
    pair_ids[0, 1] = -1
    return PreferenceBatch(tokens, targets, positions, documents, answers, pair_ids, until)


def padded(batch: Batch) -> Batch:
    """With a row more on which nothing is due."""
    row = torch.zeros(1, TIME, dtype=torch.long)
    more = {
        "tokens": torch.cat((batch.tokens, row)),
        "targets": torch.cat((batch.targets, torch.full_like(row, IGNORE))),
        "positions": torch.cat((batch.positions, torch.arange(TIME)[None])),
    }
    if isinstance(batch, PreferenceBatch):
        assert batch.seen_until is not None
        more |= {
            "documents": torch.cat((batch.documents, row)),
            "answers": torch.cat((batch.answers, row - 1)),
            "pair_ids": torch.cat((batch.pair_ids, torch.full((1, 2), -1))),
            "seen_until": torch.cat((batch.seen_until, row + TIME)),
        }
    return replace(batch, **more)


BATCHES = {TokenBatch: token_batch, PreferenceBatch: preference_batch}
COUNTS = {TokenBatch: 4 * TIME - 7, PreferenceBatch: 7}
OBJECTIVES: dict[str, type[Objective]] = {
    "pretrain": Pretrain,
    "sft": Sft,
    "dpo": Dpo,
    "kto": Kto,
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def some_batch(name: str, rows: int) -> Batch:
    return BATCHES[OBJECTIVES[name].batch_type](rows)


def make(name: str) -> Objective:
    """An objective of the table; one that needs a reference gets another model's."""
    if name not in ("dpo", "kto"):
        return OBJECTIVES[name]()
    other = build("transformer")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    reference = LiveLogProbs(FrozenModel(other))
    if name == "dpo":
        return Dpo(reference=reference)
    return Kto(KtoSettings(undesirable=1.3), reference, torch.arange(10) % 3 > 0)


def gradients(model: LanguageModel, name: str, batches: list[Batch]):
    model.zero_grad()
    loss = make(name)
    sums = [loss(model, batch) for batch in batches]
    for part in sums:
        part.total.backward()
    total = sum(part.total.detach() for part in sums)
    count = sum(int(part.count) for part in sums)
    metrics = {key: sum(part.metrics[key].detach() for part in sums) for key in sums[0].metrics}
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return total, count, grads, metrics


@every_objective
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_micro_batches_add_up_to_the_whole(name: str, size: int) -> None:
    model = build("transformer")
    batch = some_batch(name, 5)
    whole = gradients(model, name, [batch])
    parts = gradients(model, name, [batch.rows(i, i + size) for i in range(0, 5, size)])
    assert parts[1] == whole[1]
    torch.testing.assert_close(parts[0], whole[0])
    torch.testing.assert_close(parts[2], whole[2], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(parts[3], whole[3])


@every_objective
def test_padding_changes_nothing(name: str) -> None:
    model = build("transformer")
    batch = some_batch(name, 3)
    total, count, grads, metrics = gradients(model, name, [batch])
    with_padding = gradients(model, name, [padded(batch)])
    assert with_padding[1] == count
    torch.testing.assert_close(with_padding[0], total)
    torch.testing.assert_close(with_padding[2], grads, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(with_padding[3], metrics)


@every_objective
def test_rows_add_up_to_the_loss(name: str) -> None:
    model, batch = build("transformer"), some_batch(name, 4)
    loss = make(name)(model, batch)
    torch.testing.assert_close(loss.rows.sum(), loss.total.detach())
    assert int(loss.count) == int(batch.row_counts.sum()) == COUNTS[type(batch)]


def test_preferences_start_at_ln_2_without_margins() -> None:
    policy, batch = build("transformer"), preference_batch(4)
    loss = Dpo(reference=LiveLogProbs(FrozenModel(build("transformer"))))(policy, batch)
    torch.testing.assert_close(loss.total / loss.count, torch.tensor(2.0).double().log())
    for name in ("margin", "chosen_change", "rejected_change"):
        assert abs(loss.metrics[name]) < 1e-12


def test_fine_tuning_starts_at_its_reference_without_divergence() -> None:
    policy, batch = build("transformer"), token_batch(4)
    reference = FrozenModel(build("transformer"))
    alone, anchored = (
        objective(policy, batch) for objective in (Sft(), Sft(strength=2.0, reference=reference))
    )
    assert abs(anchored.metrics["kl"]) < 1e-12
    parameters = list(policy.parameters())
    anchor = torch.autograd.grad(anchored.total - alone.total, parameters)
    assert all(gradient.abs().max() < 1e-12 for gradient in anchor)
