"""The share that is held out is the one that was asked for, whatever one prompt weighs."""

import logging

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foundling.data.conversations import SourcedConversation
from foundling.data.prompt_split import split_by_prompt
from foundling.text.chat import Message

settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")


def asked(*prompts: str) -> list[SourcedConversation]:
    return [
        SourcedConversation(f"f:{n}", (Message("user", prompt), Message("assistant", "x")))
        for n, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_greeting_that_begins_most_rows_is_not_held_out(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows = asked(*["Hi"] * 90, *map(str, range(10)))
    train, held_out = split_by_prompt(rows, 0.05, seed)
    assert len(held_out) == 5
    assert not caplog.records
    assert split_by_prompt(rows, 0.05, seed) == (train, held_out)


def test_a_share_that_cannot_be_had_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "foundling"):
        _, held_out = split_by_prompt(asked(*["Hi"] * 90, *map(str, range(10))), 0.5, 1)
    assert len(held_out) < 11
    assert "not the 0.5 of them that was asked for: one prompt alone has 90" in caplog.text


@settings(max_examples=200)
@example([2, 1, 2], 0.75, 1)
@example([90, 10], 0.05, 1)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=30), st.floats(0.01, 0.9), st.integers(0, 9)
)
def test_the_share_is_right_within_one_prompt(sizes: list[int], fraction: float, seed: int) -> None:
    rows = asked(*(str(number) for number, size in enumerate(sizes) for _ in range(size)))
    train, held_out = split_by_prompt(rows, fraction, seed)
    assert train
    assert held_out
    assert not {c.prompt for c in train} & {c.prompt for c in held_out}
    wanted = fraction * len(rows)
    assert abs(len(held_out) - wanted) <= max(sizes)
    bound = max(wanted / 2, min(sizes))
    if sum(size for size in sizes if size <= bound) >= wanted:  # the small ones can make it up
        assert abs(len(held_out) - wanted) <= bound
