"""Choosing a token: each filter against the formula, each draw against its distribution."""

import pytest
import torch

from foundling.base.config import ConfigError
from foundling.generation.sampling import RandomStream, Sampling, choose, keep

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
    def draw(seed: int) -> torch.Tensor:
        random = RandomStream(seed, [0])
        drawn = (choose(LOGITS[0], Sampling(), random.uniform(n)) for n in range(20_000))
        return torch.tensor(list(drawn))

    share = torch.bincount(draw(1), minlength=4) / 20_000
    # Five standard deviations of a binomial share.
    assert (share - PROBABILITIES[0]).abs().max() < 5 * (0.25 / 20_000) ** 0.5
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_p": 0}, {"top_k": 0}, {"min_p": 2}])
def test_nonsense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Sampling.parse(values)
