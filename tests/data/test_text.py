"""Batches as a pure function of seed and index, whose rows are the corpus, each once an epoch."""

from pathlib import Path

import pytest
import torch

from foundling.base.config import ConfigError
from foundling.data.row_order import permuted
from foundling.data.store import TokenSplit, TokenStore
from foundling.data.text import TextData, rows_at, validation_batches
from foundling.models.batch import IGNORE

CONTEXT = 16


@pytest.fixture
def split(village: Path) -> TokenSplit:
    return TokenStore.open(village).split("train")


def data(split: TokenSplit, seed: int = 1, batch_size: int = 4) -> TextData:
    return TextData(split, context=CONTEXT, batch_size=batch_size, seed=seed)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 1000])
def test_the_order_is_a_permutation(size: int) -> None:
    found = [permuted(place, size, key=123) for place in range(size)]
    assert sorted(found) == list(range(size))
    if size >= 64:
        assert found != [permuted(place, size, key=124) for place in range(size)]
        moved = sum(abs(a - b) for a, b in enumerate(found)) / size
        assert moved == pytest.approx(size / 3, rel=0.25)  # that of a random permutation


def test_a_batch_is_pure_in_seed_and_index(split: TokenSplit) -> None:
    first, second = data(split), data(split)
    first.batch(9)
    for index in (0, 5, 1000):
        assert torch.equal(first.batch(index).tokens, second.batch(index).tokens)
    assert not torch.equal(first.batch(0).tokens, data(split, seed=2).batch(0).tokens)
    assert first.fingerprint == second.fingerprint != data(split, seed=2).fingerprint


def test_samples_do_not_depend_on_the_batch_size(split: TokenSplit) -> None:
    small, large = data(split, batch_size=2), data(split, batch_size=6)
    rows = torch.cat([small.batch(index).tokens for index in range(3)])
    assert torch.equal(rows, large.batch(0).tokens)


def test_an_epoch_visits_every_row_once_and_the_next_one_is_cut_elsewhere(
    split: TokenSplit,
) -> None:
    batches = data(split)
    size = batches.rows_per_epoch
    first = {batches.start_of(sample) for sample in range(size)}
    second = {batches.start_of(sample) for sample in range(size, 2 * size)}
    assert len(first) == len(second) == size
    assert len({start % CONTEXT for start in first}) == 1
    assert not first & second
    assert max(first | second) + CONTEXT + 1 <= split.num_tokens


def test_targets_positions_and_documents_follow_the_tokens(
    split: TokenSplit, village: Path
) -> None:
    begin = TokenStore.open(village).tokenizer().begin_of_text
    start = int(split.document_starts(1, split.num_tokens)[3]) - 5
    batch = rows_at(split, [start], CONTEXT)
    tokens = torch.from_numpy(split.read(start, start + CONTEXT + 1))
    assert torch.equal(batch.tokens[0], tokens[:-1])
    starts = tokens[1:] == begin
    assert starts[4]
    assert torch.equal(batch.targets[0], torch.where(starts, IGNORE, tokens[1:]))
    assert batch.documents is not None
    position, document = 0, 0
    for place, token in enumerate(tokens[:-1].tolist()):
        if token == begin and place:
            position, document = 0, document + 1
        assert batch.positions[0, place] == position
        assert batch.documents[0, place] == document
        position += 1


def test_validation_scores_every_token_once(split: TokenSplit) -> None:
    batches = list(validation_batches(split, context=CONTEXT, batch_size=3, max_tokens=None))
    due = sum(int((batch.targets != IGNORE).sum()) for batch in batches)
    # All but the first token of the split, and the begin marks, which nothing announces.
    assert due == split.num_tokens - split.num_documents
    tokens = torch.cat([batch.tokens.flatten() for batch in batches])[: split.num_tokens - 1]
    assert torch.equal(tokens, torch.from_numpy(split.read(0, split.num_tokens - 1)))
    bounded = list(validation_batches(split, context=CONTEXT, batch_size=3, max_tokens=100))
    assert sum(batch.tokens.numel() for batch in bounded) == 7 * CONTEXT


def test_a_corpus_shorter_than_a_row_is_refused(split: TokenSplit) -> None:
    with pytest.raises(ConfigError, match="shorter context"):
        TextData(split, context=split.num_tokens, batch_size=1, seed=0)
