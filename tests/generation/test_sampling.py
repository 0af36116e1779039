"""Choosing a token: each filter against the formula, each draw against its distribution."""

from typing import Any

import pytest
import torch

from foundling.base.config import ConfigError
from foundling.generation.sampling import RandomStream, Sampling, choose, keep, penalised, pick
from foundling.models.finite import NotFiniteError

PROBABILITIES = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
LOGITS = PROBABILITIES.log()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(top_k=9), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(top_p=0.69), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(top_p=0.71), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Sampling(top_p=0.01), [1.0, 0, 0, 0]),
        (Sampling(min_p=0.45), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Sampling(top_k=3, top_p=0.5), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
    ],
)
def test_what_is_kept(sampling: Sampling, expected: list[float]) -> None:
    torch.testing.assert_close(keep(LOGITS, sampling), torch.tensor([expected]))


def test_temperature_0_takes_the_most_likely_and_the_first_of_equals() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [1.0, 1.0, 0.0]])
    assert [choose(row, Sampling(temperature=0), 0.9) for row in logits] == [1, 0]


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    probabilities = keep(LOGITS, Sampling())[0]

    def draw(seed: int) -> torch.Tensor:
        random = RandomStream(seed, [0])
        drawn = (pick(probabilities, random.uniform(n)) for n in range(20_000))
        return torch.tensor(list(drawn))

    first = draw(1)
    share = torch.bincount(first, minlength=4) / 20_000
    # Five standard deviations of a binomial share.
    assert (share - PROBABILITIES[0]).abs().max() < 5 * (0.25 / 20_000) ** 0.5
    assert torch.equal(first, draw(1))
    assert not torch.equal(first, draw(2))


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_p": 0}, {"top_k": 0}, {"min_p": 2}])
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Sampling.parse(values)


def test_penalties_and_bias_by_hand() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, 0.0, 4.0])
    found = penalised(
        logits,
        Sampling(
            repetition_penalty=2, frequency_penalty=0.5, presence_penalty=0.25, logit_bias={3: 1.5}
        ),
        prompt=[0, 0],
        counts={1: 2, 4: 1},
    )
    # Prompt: 2 / 2. Twice generated: -1 · 2 - 2 · 0.5 - 0.25. Once: 4 / 2 - 0.5 - 0.25.
    assert found.tolist() == [1.0, -3.25, 0.5, 1.5, 1.25]
    assert logits.tolist() == [2.0, -1.0, 0.5, 0.0, 4.0]
    assert penalised(logits, Sampling(), [0], {1: 2}) is logits


def test_the_most_likely_token_is_chosen_after_penalties_bias_and_grammar() -> None:
    greedy, logits = Sampling(temperature=0), torch.tensor([2.0, 1.0, 0.0, -1.0])
    assert choose(logits, greedy, 0.5) == 0
    assert choose(logits, greedy.changed({"presence_penalty": 1.5}), 0.5, counts={0: 1}) == 1
    assert choose(logits, greedy.changed({"logit_bias": {3: 9}}), 0.5) == 3
    allowed = torch.tensor([False, False, True, True])
    assert choose(logits, greedy, 0.5, allowed=allowed) == 2
    assert {choose(logits, Sampling(), n / 50, allowed=allowed) for n in range(50)} == {2, 3}


def test_the_share_of_uniform_numbers_that_draw_a_token_is_its_probability() -> None:
    """Exactly, by enumeration, and never a token without probability."""
    steps = 1000
    for sampling, exact in [
        (Sampling(), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(top_k=3, min_p=0.6), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
    ]:
        drawn = [choose(LOGITS[0], sampling, (n + 0.5) / steps) for n in range(steps)]
        assert drawn == sorted(drawn)
        for token, probability in enumerate(exact):
            assert abs(drawn.count(token) - probability * steps) <= 1
            assert probability or not drawn.count(token)
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf])
    assert {choose(logits, Sampling(), u) for u in (0.0, 0.5, 1 - 2**-53)} == {1}


@pytest.mark.parametrize("size", [5, 1500])
def test_top_p_keeps_what_a_whole_ordering_keeps(size: int) -> None:
    torch.manual_seed(0)
    for spread in (0.1, 1.0, 4.0):
        logits = (torch.randn(size) * spread).round(decimals=1)  # many are equal
        probabilities = logits.softmax(-1).tolist()
        for top_p in (0.05, 0.5, 0.97, 1.0):
            kept, share = set[int](), 0.0
            for token in sorted(range(size), key=lambda token: -probabilities[token]):
                if share < top_p - 1e-6:
                    kept.add(token)
                share += probabilities[token]
            found = keep(logits[None], Sampling(top_p=top_p))[0].nonzero()[:, 0].tolist()
            assert len(kept.symmetric_difference(found)) <= 1 or top_p == 1.0  # rounding


def test_uniform_numbers_depend_on_seed_prompt_sample_and_index() -> None:
    streams = [(0, [1], 0), (1, [1], 0), (0, [2], 0), (0, [1], 1), (0, [1, 0], 0), (2**70, [1], 0)]
    numbers = [RandomStream(*stream).uniform(index) for stream in streams for index in (0, 1)]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 for number in numbers)
    assert RandomStream(0, [1]).uniform(1) == numbers[1]


@pytest.mark.parametrize("temperature", [1e-320, 1e-46, 1e300])
def test_every_temperature_draws_a_token_that_is_allowed(temperature: float) -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 9.0])
    allowed = torch.tensor([True, True, True, False])
    drawn = {
        choose(logits, Sampling(temperature=temperature), n / 9, allowed=allowed) for n in range(9)
    }
    assert drawn == ({1} if temperature < 1 else {0, 1, 2})


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": float("inf")},
        {"repetition_penalty": 1e-50},
        {"repetition_penalty": 1e50},
        {"logit_bias": {0: float("nan")}},
        {"logit_bias": {0: float("-inf")}},
        {"logit_bias": {0: 1e40}},
    ],
)
def test_what_would_not_stay_finite_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Sampling.parse(values)


def test_logits_that_a_penalty_makes_infinite_are_refused() -> None:
    with pytest.raises(NotFiniteError):
        choose(torch.tensor([3e38, 1.0]), Sampling(repetition_penalty=0.01), 0.5, prompt=[0])


def test_a_share_too_small_for_fp32_keeps_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    assert keep(logits, Sampling(top_p=6e-127)).tolist() == [[0.0, 1.0, 0.0]]
