"""Answers beside text that is only to be stayed near to: a pure function of the samples."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from foundling.data.anchored import AnchoredData
from foundling.data.conversations import SourcedConversation
from foundling.data.examples import Examples
from foundling.data.store import TokenStore
from foundling.data.supervised import SupervisedData
from foundling.data.text import TextData
from foundling.models.batch import ANCHOR, IGNORE, TokenBatch
from foundling.text.chat import Message

CONTEXT = 48


@pytest.fixture
def data(village: Path) -> AnchoredData:
    store = TokenStore.open(village)
    conversations = [
        SourcedConversation(
            f"row {number}", (Message("user", f"{number}?"), Message("assistant", "Yes. " * number))
        )
        for number in range(1, 9)
    ]
    examples, _ = Examples.make(conversations, store.tokenizer(), max_length=CONTEXT)
    answers = SupervisedData(examples, context=CONTEXT, batch_size=3, seed=1)
    text = TextData(store.split("train"), context=CONTEXT, batch_size=2, seed=1)
    return AnchoredData(answers, text)


def rows(batch: TokenBatch, which: Sequence[int]) -> list[list[int]]:
    return [batch.tokens[row].tolist() for row in which]


def test_text_stands_behind_the_answers_and_has_no_tokens_to_learn(data: AnchoredData) -> None:
    batch = data.batch(1)
    assert len(batch) == data.batch_size == 5
    assert rows(batch, range(3)) == data.answers.batch(1).tokens.tolist()
    assert rows(batch, [3, 4]) == data.text.batch(1).tokens.tolist()
    assert torch.equal(batch.targets[:3], data.answers.batch(1).targets)
    of_text = data.text.batch(1).targets
    assert (batch.targets[3:] == ANCHOR).equal(of_text != IGNORE)
    assert (batch.targets[3:] == IGNORE).equal(of_text == IGNORE)
    assert batch.target_ids is not None
    assert batch.documents is not None
    assert (batch.target_ids[3:] == -1).all()


def test_what_is_skipped_leaves_the_others_in_their_order(data: AnchoredData) -> None:
    everything = [row for index in range(4) for row in data.batch(index).tokens.tolist()]
    for skipped in (((0, 1),), ((2, 4),), ((1, 3), (6, 8))):
        left = [row for n, row in enumerate(everything) if not any(a <= n < b for a, b in skipped)]
        found = [row for index in range(3) for row in data.batch(index, skipped).tokens.tolist()]
        assert found == left[: len(found)]


def test_each_sample_is_described_by_its_own_kind(data: AnchoredData) -> None:
    assert data.describe(5 + 1) == data.answers.describe(3 + 1)
    assert data.describe(5 + 4) == data.text.describe(2 + 1)
