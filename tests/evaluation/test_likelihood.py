"""Continuations scored together equal those scored alone, on every rung."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation import likelihood
from foundling.evaluation.likelihood import likelihoods
from foundling.evaluation.prefix_tree import PrefixTree
from foundling.models import RUNGS

VOCAB, CONTEXT = 13, 24
SETTINGS = [
    *({"rung": rung} for rung in RUNGS),
    {"window": 3},
    {"num_kv_heads": 1},
    {"positions": "learned", "norm": "layernorm"},
    {"positions": "sinusoidal"},
]


def build(changes: dict[str, object]) -> models.LanguageModel:
    torch.manual_seed(0)
    values = {"dim": 16, **changes}
    if values.get("rung", "transformer") == "transformer":
        values |= {"num_heads": 2, "num_layers": 2}
    model = models.build(values, vocab_size=VOCAB, context=CONTEXT).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def some_pairs(count: int = 60) -> list[tuple[list[int], list[int]]]:
    """Pairs that have much in common: drawn from few tokens, some the same, some one's prefix."""
    draw = random.Random(3)
    stems = [[draw.randrange(3) for _ in range(9)] for _ in range(3)]
    pairs = []
    for _ in range(count):
        prompt = draw.choice(stems)[: draw.randint(1, 9)] + [
            draw.randrange(2) for _ in range(draw.randint(0, 8))
        ]
        pairs.append((prompt, [draw.randrange(VOCAB) for _ in range(draw.randint(1, 5))]))
    return [*pairs, pairs[0], (pairs[1][0], pairs[2][1])]


def alone(model: models.LanguageModel, prompt: list[int], after: list[int]) -> tuple[float, bool]:
    tokens = torch.tensor([prompt + after])
    with torch.no_grad():
        logs = model.logits(model(tokens)).log_softmax(-1)[0, len(prompt) - 1 : -1]
    each = logs.gather(1, torch.tensor(after)[:, None])[:, 0]
    return float(each.sum()), bool((logs.argmax(1) == torch.tensor(after)).all())


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
@pytest.mark.parametrize("most", [1, 4, 40, 10_000])
def test_together_equals_alone(
    changes: dict[str, object], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "CPU_TOKENS", most)
    monkeypatch.setattr(likelihood, "LOGITS", 40)  # three rows at a time
    model, pairs = build(changes), some_pairs()
    found = likelihoods(model, pairs)
    for one, (prompt, after) in zip(found, pairs, strict=True):
        nats, greedy = alone(model, prompt, after)
        assert one.nats == pytest.approx(nats, abs=1e-9)
        assert one.is_greedy == greedy


def test_the_likeliest_continuation_is_greedy() -> None:
    model = build({})
    with torch.no_grad():
        best = int(model.logits(model(torch.tensor([[1, 2, 3]])))[0, -1].argmax())
    found = likelihoods(model, [([1, 2, 3], [token]) for token in range(VOCAB)])
    assert [one.is_greedy for one in found] == [token == best for token in range(VOCAB)]
    assert sum(np.exp([one.nats for one in found])) == pytest.approx(1)


def test_what_cannot_be_scored_is_refused() -> None:
    model = build({})
    with pytest.raises(ConfigError, match="no token"):
        likelihoods(model, [([], [1])])
    with pytest.raises(ConfigError, match="no token"):
        likelihoods(model, [([1], [])])
    fitting = [([1] * CONTEXT, [1])]  # the last token is never read
    assert len(likelihoods(model, fitting)) == 1
    with pytest.raises(ConfigError, match=r"25 tokens .* at most 24"):
        likelihoods(model, [([1] * CONTEXT, [1, 1])])
    assert likelihoods(model, []) == []


def test_a_worked_tree() -> None:
    tree = PrefixTree([(5, 6), (5, 6, 7), (5, 8)])
    assert tree.tokens.tolist() == [5, 6, 7, 8]
    assert tree.depth.tolist() == [0, 1, 2, 1]
    assert tree.until.tolist() == [4, 3, 3, 4]
    assert tree.nodes_of(np.array([1, 0, 2]), np.array([1, 0, 1])).tolist() == [1, 0, 3]
    assert list(tree.passes(10)) == [(0, 4)]
    assert list(tree.passes(2)) == [(0, 1), (1, 3), (3, 4)]


rows = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), min_size=1, unique=True
)


@settings(max_examples=200, deadline=None)
@given(rows, st.integers(1, 9))
def test_every_prefix_is_read_once_behind_its_path(rows: list[tuple[int, ...]], most: int) -> None:
    rows = sorted(rows)
    tree = PrefixTree(rows)
    prefixes = {row[: length + 1] for row in rows for length in range(len(row))}
    assert len(tree.tokens) == len(prefixes)
    passes = list(tree.passes(most))
    assert [node for start, stop in passes for node in range(start, stop)] == list(
        range(len(tree.tokens))
    )
    assert all(stop - start <= most for start, stop in passes)
    held: list[int] = []  # the tokens in the state
    read = set()
    for start, stop in passes:
        held = held[: tree.depth[start]]
        assert len(held) == tree.depth[start]
        before = tuple(held)
        for node in range(start, stop):
            seen = [n for n in range(start, node + 1) if tree.until[n] > node]
            read.add((*before, *(int(tree.tokens[n]) for n in seen)))
        held += tree.tokens[start:stop].tolist()
    assert read == prefixes
