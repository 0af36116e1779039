"""Sampled continuations: where they end, what is due, and that they are the model's own."""

import torch

from foundling import models
from foundling.metrics.continuations import sampled_continuations
from foundling.models.batch import IGNORE
from foundling.models.language_model import LanguageModel

VOCAB = 11


def build(context: int = 12) -> LanguageModel:
    torch.manual_seed(0)
    settings = {"dim": 16, "num_layers": 1, "num_heads": 2}
    return models.build(settings, vocab_size=VOCAB, context=context)


def test_each_row_is_a_prompt_and_what_follows_it() -> None:
    prompts = [[1, 2, 3], [4], list(range(10))]
    found = list(sampled_continuations(build(), prompts, max_tokens=5, ends=frozenset(), seed=3))
    for prompt, batch in zip(prompts, found, strict=True):
        made = min(5, 12 - len(prompt))
        assert batch.tokens[0, : len(prompt)].tolist() == prompt
        assert batch.tokens.shape[1] == len(prompt) + made - 1
        due = batch.targets[0] != IGNORE
        assert due.tolist() == [False] * (len(prompt) - 1) + [True] * made
        assert torch.equal(batch.targets[0, :-1][due[:-1]], batch.tokens[0, 1:][due[:-1]])


def test_an_end_ends_it_and_a_full_context_has_none() -> None:
    every = frozenset(range(VOCAB))
    prompts = [[1, 2], [*range(11), 0]]
    (only,) = sampled_continuations(build(), prompts, max_tokens=5, ends=every, seed=3)
    assert (only.targets != IGNORE).sum() == 1


def test_they_are_drawn_from_the_models_own_distribution() -> None:
    """The share of each first token is near its probability."""
    model = build()
    with torch.no_grad():
        model.unembed.weight.mul_(20)
        wanted = model.logits(model(torch.tensor([[5]])))[0, -1].softmax(-1)
    rows = sampled_continuations(model, [[5]] * 600, max_tokens=1, ends=frozenset(), seed=0)
    drawn = torch.stack([batch.targets[0, 0] for batch in rows])
    shares = torch.bincount(drawn, minlength=VOCAB) / 600
    assert (shares - wanted).abs().max() < 0.07  # three standard deviations of the widest


def test_a_seed_gives_the_same_whatever_stands_before() -> None:
    one, two = (
        list(sampled_continuations(build(), prompts, max_tokens=4, ends=frozenset(), seed=1))
        for prompts in ([[1], [2]], [[3, 4], [2]])
    )
    assert torch.equal(one[1].tokens, two[1].tokens)
