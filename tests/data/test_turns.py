"""Turns of sources: within one sample of their shares in every prefix, found at any index."""

from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.data.turns import Leg, Turns


@st.composite
def schedules(draw: st.DrawFn, longest: int = 60) -> list[Leg]:
    """Legs of one number of parts, some of them shorter than that, some sources without any."""
    base, sources = draw(st.integers(1, 24)), draw(st.integers(1, 5))
    borders = st.lists(st.integers(0, base), min_size=sources - 1, max_size=sources - 1)
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        cuts = [0, *sorted(draw(borders)), base]
        parts.append(tuple(b - a for a, b in pairwise(cuts)))
    lengths = draw(st.lists(st.integers(1, longest), min_size=len(parts), max_size=len(parts)))
    firsts = accumulate([0, *lengths[:-1]])
    return [Leg(first, of) for first, of in zip(firsts, parts, strict=True)]


@settings(deadline=None, max_examples=60)
@given(schedules(), st.integers(0, 250))
def test_every_prefix_is_within_one_sample_of_its_shares(legs: list[Leg], there: int) -> None:
    turns, had = Turns(legs), [0] * len(legs[0].parts)
    shares = [0] * len(had)
    for sample in range(250):
        source, earlier = turns.turn(sample)
        assert earlier == had[source]
        had[source] += 1
        current = [leg for leg in legs if leg.first <= sample][-1]
        shares = [a + b for a, b in zip(shares, current.parts, strict=True)]
        assert sum(shares) == (sample + 1) * turns.base
        for count, share in zip(had, shares, strict=True):
            assert abs(count * turns.base - share) < turns.base
        assert turns.counts(sample + 1) == had
        assert [turns.share(s, sample + 1) for s in range(len(had))] == shares
    assert Turns(legs).turn(there) == turns.turn(there)  # from anywhere


@settings(deadline=None, max_examples=60)
@given(schedules(longest=10**12), st.integers(0, 4 * 10**12))
def test_a_sample_is_found_at_any_index(legs: list[Leg], far: int) -> None:
    turns = Turns(legs)
    had = turns.counts(far)
    for sample in range(far, far + 40):
        source, earlier = turns.turn(sample)
        assert earlier == had[source]
        had[source] += 1
        for s, count in enumerate(had):
            assert abs(count * turns.base - turns.share(s, sample + 1)) < turns.base


def test_equal_shares_take_turns() -> None:
    turns = Turns([Leg(0, (1, 1, 1))])
    assert [turns.turn(sample) for sample in (0, 1, 2, 3, 10**12)] == [
        (0, 0), (1, 0), (2, 0), (0, 1), (10**12 % 3, 10**12 // 3),
    ]  # fmt: skip


def test_a_sample_is_found_behind_many_legs() -> None:
    legs = [Leg(17 * number, (number % 5, 10 - number % 5)) for number in range(1000)]
    cold, turns, had = Turns(legs), Turns(legs), [0, 0]
    for sample in range(17 * 1000):
        source, earlier = turns.turn(sample)
        assert earlier == had[source]
        had[source] += 1
    assert cold.turn(17 * 1000 - 1) == (source, earlier)
