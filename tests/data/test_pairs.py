"""Pairs in rows: what a batch holds, its order, and shared prompts against plain ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedPair
from foundling.data.encoded_pairs import CHOSEN, PROMPT, REJECTED, EncodedPairs
from foundling.data.pairs import PreferenceData
from foundling.models import RUNGS
from foundling.models.batch import IGNORE, PreferenceBatch
from foundling.objectives.answers import answer_log_probs, summed
from foundling.text.chat import Message
from foundling.text.tokenizer import Tokenizer

VOCAB = 23


def encoded(lengths: Sequence[tuple[int, int, int]] | None = None) -> EncodedPairs:
    """Pairs of random tokens; of some answers not all tokens are learned."""
    random = np.random.default_rng(0)
    if lengths is None:
        lengths = [tuple(random.integers(1, 7, size=3)) for _ in range(17)]  # type: ignore[misc]
    sizes = np.array(lengths)
    learned = np.ones(sizes.sum(), dtype=bool)
    offsets = np.concatenate([[0], np.cumsum(sizes.flatten())])
    for pair in range(len(sizes)):
        learned[offsets[3 * pair] : offsets[3 * pair + 1]] = False
        if sizes[pair, 1] > 3:
            learned[offsets[3 * pair + 1] + 2] = False
    tokens = random.integers(1, VOCAB, size=sizes.sum()).astype(np.int32)
    where = tuple(f"file:{i}" for i in range(len(sizes)))
    return EncodedPairs(tokens, learned, offsets.astype(np.int64), where, pad=0)


def data(pairs: EncodedPairs | None = None, **changes: object) -> PreferenceData:
    settings = {"row_length": 32, "batch_size": 3, "seed": 4, **changes}
    return PreferenceData(encoded() if pairs is None else pairs, **settings)  # type: ignore[arg-type]


def test_a_worked_batch_with_a_shared_prompt() -> None:
    pairs = EncodedPairs(
        np.array([7, 8, 9, 4, 5, 6], dtype=np.int32),
        np.array([0, 0, 0, 1, 1, 1], dtype=bool),
        np.array([0, 3, 5, 6]),
        ("file:1",),
        pad=0,
    )
    batch = data(pairs, row_length=7, batch_size=1).batch(0)
    assert batch.tokens.tolist() == [[7, 8, 9, 4, 9, 0, 0]]
    assert batch.targets.tolist() == [[IGNORE, IGNORE, 4, 5, 6, IGNORE, IGNORE]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 2, 0, 0]]
    assert batch.seen_until is not None
    assert batch.seen_until.tolist() == [[5, 5, 4, 4, 5, 7, 7]]
    assert batch.answers.tolist() == [[-1, -1, 0, 0, 1, -1, -1]]
    assert batch.documents.tolist() == [[0, 0, 0, 0, 0, 1, 1]]
    assert batch.pair_ids.tolist() == [[0]]
    plain = data(pairs, row_length=8, batch_size=1, shared_prompts=False).batch(0)
    assert plain.tokens.tolist() == [[7, 8, 9, 4, 7, 8, 9, 0]]
    assert plain.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]
    assert plain.documents.tolist() == [[0, 0, 0, 0, 1, 1, 1, 2]]
    assert plain.answers.tolist() == [[-1, -1, 0, 0, -1, -1, 1, -1]]
    assert plain.seen_until is None


def everything(some: PreferenceData, size: int = 2) -> dict[int, list[list[int]]]:
    """The learned targets of both answers of each pair."""
    found: dict[int, list[list[int]]] = {}
    for batch in some.ordered_batches(size):
        for row in range(len(batch)):
            for slot, pair in enumerate(batch.pair_ids[row].tolist()):
                if pair >= 0:
                    assert pair not in found
                    targets = batch.targets[row]
                    of = [targets[batch.answers[row] == 2 * slot + side] for side in (0, 1)]
                    found[pair] = [side.tolist() for side in of]
    return found


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_every_pair_is_there_once_with_its_targets(packing: bool, shared: bool) -> None:
    pairs = encoded()
    found = everything(data(pairs, packing=packing, shared_prompts=shared))
    assert sorted(found) == list(range(len(pairs)))
    for index, sides in found.items():
        for part, targets in zip((CHOSEN, REJECTED), sides, strict=True):
            tokens, learned = pairs.part(index, part)
            assert targets == tokens[learned].tolist()


def same(one: PreferenceBatch, other: PreferenceBatch) -> bool:
    names = ("tokens", "targets", "positions", "documents", "answers", "pair_ids")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_batch_is_a_pure_function_of_seed_and_index() -> None:
    first, second = data(), data()
    for index in (5, 0, 9):
        assert same(first.batch(index), second.batch(index))
    assert not same(data(seed=5).batch(0), first.batch(0))
    rows = first.rows_per_epoch
    seen = sorted(i for row in range(rows) for i in first.describe(row)["pairs"])
    assert seen == list(range(17))
    skipping = first.batch(0, ((1, 2),))
    assert torch.equal(skipping.tokens[1], first.batch(0).tokens[2])


def test_the_fingerprint_is_of_pairs_and_settings() -> None:
    base = data().fingerprint
    others = [data(seed=9), data(row_length=33), data(packing=False), data(shared_prompts=False)]
    others.append(data(encoded([(2, 3, 4)] * 9)))
    assert len({base, *(other.fingerprint for other in others)}) == 6
    assert data().fingerprint == base


def test_the_fingerprint_is_of_labels_too() -> None:
    pairs = encoded([(2, 3, 4)] * 3)
    good, bad = (replace(pairs, labels=(label, True, False)) for label in (True, False))
    assert len({pairs.fingerprint, good.fingerprint, bad.fingerprint}) == 3


def test_sharing_takes_less_room_and_packing_too() -> None:
    shared, plain = data(), data(shared_prompts=False)
    assert shared.sizes.sum() < plain.sizes.sum()
    assert data(packing=False).rows_per_epoch == 17 > shared.rows_per_epoch
    assert 0.5 < shared.efficiency <= 1


def test_a_description_says_what_a_row_holds() -> None:
    told = data().describe(0)
    assert set(told) == {"pairs", "where", "prompts", "chosen", "rejected"}
    assert told["where"] == [f"file:{i}" for i in told["pairs"]]


def test_a_pair_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ConfigError, match="file:0: 29 tokens, but row_length = 28"):
        data(encoded([(10, 10, 10)]), row_length=28)


@pytest.mark.parametrize(
    "changes",
    [
        {"rung": "attention"},
        {},
        {"positions": "learned", "norm": "layernorm"},
        {"positions": "sinusoidal"},
        {"positions": "none"},
        {"window": 3},
        {"num_kv_heads": 1},
    ],
)
def test_shared_equals_plain_and_packed_equals_alone(changes: dict[str, object]) -> None:
    torch.manual_seed(0)
    settings = {"dim": 16, "num_heads": 2, **changes}
    if settings.get("rung") != "attention":
        settings |= {"num_layers": 2}
    model = models.build(settings, vocab_size=VOCAB, context=12).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    assert model.supports_tree_mask
    pairs = encoded()
    expected = torch.stack([alone(model, pairs, index) for index in range(len(pairs))])
    for packing in (True, False):
        for shared in (True, False):
            some = data(pairs, packing=packing, shared_prompts=shared)
            found = torch.zeros_like(expected)
            for batch in some.ordered_batches():
                values, _ = answer_log_probs(model, batch)
                there = batch.pair_ids >= 0
                found[batch.pair_ids[there]] = values[there].detach()
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def alone(model: torch.nn.Module, pairs: EncodedPairs, index: int) -> torch.Tensor:
    """The log-probabilities of both answers, by the naive formula over a row of its own."""
    found = []
    for part in (CHOSEN, REJECTED):
        (prompt, _), (answer, learned) = pairs.part(index, PROMPT), pairs.part(index, part)
        tokens = torch.from_numpy(np.concatenate((prompt, answer)).astype(np.int64))[None]
        with torch.no_grad():
            logs = model.logits(model(tokens)).log_softmax(-1)[0]
        each = logs[len(prompt) - 1 : -1].gather(1, tokens[0, len(prompt) :, None])[:, 0]
        found.append(each[torch.from_numpy(learned)].sum())
    return torch.stack(found)


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_says_whether_it_knows_branches_and_else_refuses_them(rung: str) -> None:
    model = models.build({"rung": rung, "dim": 16}, vocab_size=VOCAB, context=12)
    batch = data().batch(0)
    if model.supports_tree_mask:
        model(batch.tokens, batch.view)
        return
    with pytest.raises(AssertionError):
        model(batch.tokens, batch.view)
    model.double()
    pairs = encoded()
    values, _ = answer_log_probs(model, next(data(pairs, shared_prompts=False).of([3])))
    torch.testing.assert_close(values[0, 0].detach(), alone(model, pairs, 3), atol=1e-10, rtol=0)


def test_sums_go_to_their_answers() -> None:
    batch = data().batch(0)
    ones = torch.ones(int((batch.targets != IGNORE).sum()), dtype=torch.float64)
    found = summed(batch, ones)
    for row in range(len(batch)):
        for slot, pair in enumerate(batch.pair_ids[row].tolist()):
            for side, part in enumerate((CHOSEN, REJECTED)):
                count = encoded().part(pair, part)[1].sum() if pair >= 0 else 0
                assert found[row, slot, side] == count


# ------------------------------------------------------------------ from messages to tokens


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.characters(["abcdefghijklmnopqrstuvwxyz ?!"]).with_roles()


def sourced(*turns: str, chosen: str = "yes", rejected: str = "no") -> SourcedPair:
    roles = ("user", "assistant")
    front = tuple(Message(roles[i % 2], text) for i, text in enumerate(turns))  # type: ignore[arg-type]
    sides = ((*front, Message("assistant", text)) for text in (chosen, rejected))
    return SourcedPair("file:1", *sides, len(front))


def test_the_prompt_ends_where_the_assistant_begins(tokenizer: Tokenizer) -> None:
    pairs, report = EncodedPairs.make([sourced("who?")], tokenizer, max_length=99)
    prompt, chosen, rejected = (tokenizer.decode(pairs.part(0, k)[0].tolist()) for k in range(3))
    assert "who?" in prompt
    assert ("yes" in chosen, "no" in rejected) == (True, True)
    assert pairs.part(0, PROMPT)[0][-1] == tokenizer.special("<|assistant|>")
    assert report.lines() == ["1 of 1 pairs kept; the longest has 12 tokens of at most 99"]


def test_prompts_are_cut_alike_on_both_sides(tokenizer: Tokenizer) -> None:
    long = sourced("first", "old answer", "second question", rejected="a longer answer")
    whole, _ = EncodedPairs.make([long], tokenizer, max_length=999)
    full = int(whole.lengths[0, 0] + whole.lengths[0, 2])
    less, report = EncodedPairs.make(
        [long], tokenizer, max_length=full - 1, on_long="truncate_prompt"
    )
    assert report.answers_left_out == 1
    assert tokenizer.decode(less.part(0, PROMPT)[0].tolist()).count("first") == 0
    tight = int(less.lengths[0, 0] + less.lengths[0, 2]) - 5
    least, report = EncodedPairs.make(
        [long], tokenizer, max_length=tight, on_long="truncate_prompt"
    )
    assert "d question" in tokenizer.decode(least.part(0, PROMPT)[0].tolist())
    for part in (CHOSEN, REJECTED):
        assert least.part(0, part)[0].tolist() == whole.part(0, part)[0].tolist()
    assert int(least.lengths[0, 0] + least.lengths[0, 2]) == tight


def test_what_is_too_long_is_dropped_or_told(tokenizer: Tokenizer) -> None:
    some = [sourced("a"), sourced("b" * 50)]
    with pytest.raises(ConfigError, match=r"file:1: .* max_length is 20"):
        EncodedPairs.make(some, tokenizer, max_length=20)
    kept, report = EncodedPairs.make(some, tokenizer, max_length=20, on_long="drop")
    assert (len(kept), report.dropped) == (1, ["file:1"])
    with pytest.raises(ConfigError, match="none of 2 pairs fits"):
        EncodedPairs.make(some, tokenizer, max_length=3, on_long="truncate_prompt")


def test_answers_of_the_same_tokens_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="the same tokens"):
        EncodedPairs.make([sourced("a", chosen="x", rejected="x")], tokenizer, max_length=20)
