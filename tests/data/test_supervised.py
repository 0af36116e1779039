"""Batches of instruction data: pure in seed and index, each target once an epoch, packed or not."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling import models
from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation
from foundling.data.epochs import permutation
from foundling.data.examples import Examples
from foundling.data.supervised import SupervisedData
from foundling.models.batch import IGNORE, Data, TokenBatch, whole_document
from foundling.text.chat import Message
from foundling.text.tokenizer import Tokenizer

settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")
TOKENIZER = Tokenizer.characters(["abcdefghij "])
CONTEXT = 32
SIZES = [(1 + 7 * n % 11, 1 + 5 * n % 13) for n in range(40)]


def examples_of(sizes: list[tuple[int, int]]) -> Examples:
    conversations = [
        SourcedConversation(
            f"rows.jsonl:{n + 1}",
            (
                Message("user", ("abcdefghij" * 3)[n % 10 :][:prompt]),
                Message("assistant", ("jihgfedcba" * 3)[n % 7 :][:answer]),
                *((Message("user", "a"), Message("assistant", "bc")) if n % 3 == 2 else ()),
            ),
        )
        for n, (prompt, answer) in enumerate(sizes)
    ]
    return Examples.make(conversations, TOKENIZER, max_length=40)[0]


def data(
    seed: int = 1,
    batch_size: int = 4,
    packing: bool = True,
    sizes: list[tuple[int, int]] = SIZES,
    context: int = CONTEXT,
) -> SupervisedData:
    return SupervisedData(
        examples_of(sizes),
        context=context,
        batch_size=batch_size,
        seed=seed,
        packing=packing,
        decode=lambda tokens: TOKENIZER.decode(tokens, show_special=True),
    )


def same(left: TokenBatch, right: TokenBatch) -> bool:
    return all(
        (a is None and b is None) or torch.equal(a, b)
        for a, b in zip(vars(left).values(), vars(right).values(), strict=True)
    )


def test_one_row_by_hand() -> None:
    packed = data(sizes=[(1, 2), (1, 1)], batch_size=1, context=16)
    (batch,) = packed.ordered_batches()
    assert packed.rows_per_epoch == 1
    assert packed.efficiency == 15 / 16
    text = [TOKENIZER.name_of(token).strip("<|>")[:5] for token in batch.tokens[0].tolist()]
    turn = ["begin", "user", "a", "end_o", "assis"]
    other = ["begin", "user", "b", "end_o", "assis"]
    assert text == [*turn, "j", "i", "end_o", *other, "i", "end_o", "pad"]
    none, token = IGNORE, TOKENIZER.find
    end = TOKENIZER.special("<|end_of_turn|>")
    first = [none] * 4 + [token("j"), token("i"), end, none]
    second = [none] * 4 + [token("i"), end, none]
    assert batch.targets[0].tolist() == [*first, *second, none]
    assert batch.target_ids is not None
    assert batch.target_ids[0].tolist() == [-1] * 4 + [0, 1, 2] + [-1] * 5 + [3, 4] + [-1] * 2
    assert batch.positions[0].tolist() == [*range(8), *range(7), 0]
    assert batch.documents is not None
    assert batch.documents[0].tolist() == [0] * 8 + [1] * 7 + [2]


@pytest.mark.parametrize("packing", [True, False])
def test_a_batch_is_pure_in_seed_and_index(packing: bool) -> None:
    one, two = data(packing=packing), data(packing=packing)
    assert isinstance(one, Data)
    for index in (9, 0, 40, 1, 9):
        assert same(one.batch(index), two.batch(index))
        two = data(packing=packing)
    assert not same(one.batch(0), data(seed=2, packing=packing).batch(0))
    assert one.fingerprint == two.fingerprint
    assert len({one.fingerprint, data(seed=2, packing=packing).fingerprint}) == 2


def test_fingerprints_tell_settings_apart() -> None:
    variants = [data(), data(packing=False), data(batch_size=3), data(context=33), data(seed=7)]
    assert len({variant.fingerprint for variant in variants}) == len(variants)


def test_samples_do_not_depend_on_the_batch_size() -> None:
    small, large = data(batch_size=2), data(batch_size=6)
    rows = torch.cat([small.batch(index).tokens for index in range(30)])
    assert torch.equal(rows, torch.cat([large.batch(index).tokens for index in range(10)]))


def test_skipped_samples_leave_their_places_to_the_next() -> None:
    whole = data(batch_size=1)
    skipped = ((2, 5), (7, 8))
    kept = [0, 1, 5, 6, 8, 9]
    rows = data(batch_size=6).batch(0, skipped).tokens
    assert torch.equal(rows, torch.cat([whole.batch(sample).tokens for sample in kept]))


@pytest.mark.parametrize("packing", [True, False])
def test_every_epoch_holds_every_target_once_in_another_order(packing: bool) -> None:
    batches = data(batch_size=1, packing=packing)
    size = batches.rows_per_epoch
    orders = []
    for epoch in range(3):
        seen: Counter[int] = Counter()
        held: list[int] = []
        for sample in range(epoch * size, (epoch + 1) * size):
            numbers = batches.batch(sample).target_ids
            assert numbers is not None
            seen.update(numbers[numbers >= 0].tolist())
            held += batches.examples_of(sample).tolist()
        assert seen == Counter(range(batches.num_targets))
        assert sorted(held) == list(range(len(SIZES)))
        orders.append(held)
    assert len({tuple(order) for order in orders}) == 3


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=25))
@settings(max_examples=50)
def test_rows_hold_whole_examples_with_their_own_targets(sizes: list[tuple[int, int]]) -> None:
    packed = data(sizes=sizes)
    rendered = [packed.examples.rendered(index) for index in range(len(sizes))]
    for sample in range(packed.rows_per_epoch):
        held = packed.examples_of(sample)
        batch = packed._rows([held])
        assert batch.documents is not None
        at = 0
        for document, index in enumerate(held):
            tokens, learned = rendered[index].tokens, rendered[index].learned
            part = slice(at, at + len(tokens))
            assert batch.tokens[0, part].tolist() == tokens
            assert batch.positions[0, part].tolist() == list(range(len(tokens)))
            assert set(batch.documents[0, part].tolist()) == {document}
            expected = [
                token if due else IGNORE for token, due in zip(tokens[1:], learned[1:], strict=True)
            ]
            assert batch.targets[0, part].tolist() == [*expected, IGNORE]
            at += len(tokens)
        assert at <= CONTEXT
        assert (batch.targets[0, at:] == IGNORE).all()
        assert (batch.tokens[0, at:] == TOKENIZER.pad).all()
        assert (batch.documents[0, at:] == len(held)).all()


def test_unpacked_rows_are_no_longer_than_they_must() -> None:
    batches = data(packing=False, context=39)
    for index in range(10):
        batch = batches.batch(index)
        longest = int((batch.tokens != TOKENIZER.pad).sum(1).max())
        assert batch.tokens.shape[1] == min(39, -(-longest // 16) * 16)
        assert batch.documents is None


def test_the_order_for_validation_does_not_depend_on_the_seed() -> None:
    one, two = list(data(seed=1).ordered_batches(3)), list(data(seed=2).ordered_batches(3))
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert sum(len(batch) for batch in one) == data().rows_per_epoch
    seen = torch.cat([b.target_ids.flatten() for b in one if b.target_ids is not None])
    assert seen[seen >= 0].sort().values.tolist() == list(range(data().num_targets))


def test_a_sample_is_described() -> None:
    batches = data()
    told = batches.describe(batches.rows_per_epoch + 1)
    assert told["where"] == [f"rows.jsonl:{index + 1}" for index in told["examples"]]
    assert told["text"].count("<|begin_of_text|>") == len(told["examples"])
    assert told["text"].endswith("<|end_of_turn|>")


def test_an_example_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rows\.jsonl:\d+: \d+ tokens, but row_length = 20"):
        data(context=20)


def test_only_the_newest_plans_are_kept() -> None:
    batches = data()
    for epoch in range(5):
        batches.batch(epoch * batches.rows_per_epoch // batches.batch_size)
    assert len(batches.epochs._plans) <= 2


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000])
def test_the_permutation_is_one(size: int) -> None:
    assert sorted(permutation(size, 123)) == list(range(size))
    if size >= 10:
        assert permutation(size, 123).tolist() != permutation(size, 124).tolist()


def test_the_permutation_never_changes() -> None:
    assert permutation(8, 2**63 - 1).tolist() == [5, 3, 0, 6, 4, 7, 2, 1]


@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_is_that_of_each_example_alone(packing: bool) -> None:
    model = models.build(
        {"rung": "transformer", "dim": 16, "num_layers": 2, "num_heads": 2},
        vocab_size=TOKENIZER.vocab_size,
        context=CONTEXT,
    )
    model = model.double().eval()
    batches = data(packing=packing)
    losses = torch.full((batches.num_targets,), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        for batch in batches.ordered_batches():
            log_probs = model.logits(model(batch.tokens, batch.view)).log_softmax(-1)
            due = batch.targets != IGNORE
            assert batch.target_ids is not None
            rows = log_probs[due].gather(1, batch.targets[due, None])[:, 0]
            losses[batch.target_ids[due]] = -rows
        alone = []
        for index in range(len(batches.examples)):
            rendered = batches.examples.rendered(index)
            tokens = torch.tensor([rendered.tokens])
            log_probs = model.logits(model(tokens, whole_document(tokens))).log_softmax(-1)
            alone += [
                -log_probs[0, place - 1, rendered.tokens[place]]
                for place, learned in enumerate(rendered.learned)
                if learned
            ]
    torch.testing.assert_close(losses, torch.stack(alone), rtol=0, atol=1e-12)
    assert losses.sum().item() == pytest.approx(torch.stack(alone).sum().item(), abs=1e-10)
