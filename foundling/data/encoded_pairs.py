"""Encoded pairs of answers, in flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation, SourcedPair
from foundling.data.examples import (
    BATCH,
    LengthReport,
    OnLong,
    Style,
    hash_of,
    padding,
    render_sourced,
    without,
)
from foundling.data.packing import Indices
from foundling.text.chat import Rendered
from foundling.text.tokenizer import Tokenizer

PARTS = 3
PROMPT, CHOSEN, REJECTED = range(PARTS)
Sides = tuple[Rendered, Rendered]


@dataclass(frozen=True)
class EncodedPairs:
    """Prompt, chosen and rejected answer of each pair, all one after the other.

    Part `k` of pair `i` is `offsets[3i + k]` to `offsets[3i + k + 1]`. No part is empty.
    """

    tokens: npt.NDArray[np.int32]
    learned: npt.NDArray[np.bool_]  # the token is a target with loss
    offsets: npt.NDArray[np.int64]
    where: tuple[str, ...]
    pad: int
    labels: tuple[bool, ...] = ()
    """Whether the chosen answer of each pair is good, of labelled answers."""

    @classmethod
    def make(
        cls,
        pairs: Sequence[SourcedPair],
        tokenizer: Tokenizer,
        *,
        max_length: int,
        style: Style = "chat",
        on_long: OnLong = "error",
    ) -> tuple["EncodedPairs", LengthReport]:
        """Render pairs, prompt and longer answer to at most `max_length` tokens.

        Args:
            style: "plain" renders one prompt and its answers without roles.
            on_long: what to do with a longer one: "drop" it; "error"; or "truncate_prompt": first
                the oldest exchanges are left out whole, then tokens at the front of the last user
                message, of which one stays. No answer is cut: what is too long even so is dropped.

        Raises:
            ConfigError: nothing is left, something is too long or cannot be encoded, or both
                answers are the same tokens; the message names the row.
        """
        if max_length < 2:
            raise ConfigError(f"max_length = {max_length}: a pair has at least 2 tokens a side.")
        report = LengthReport(max_length, noun="pairs")
        kept: list[tuple[SourcedPair, Sides]] = []
        for start in range(0, len(pairs), BATCH):
            some = pairs[start : start + BATCH]
            for pair, sides in zip(some, _rendered(some, tokenizer, style), strict=True):
                report.num_read += 1
                report.longest = max(report.longest, _longer(sides))
                short: Sides | None = sides
                if _longer(sides) > max_length:
                    short = _shortened(pair, sides, tokenizer, style, on_long, report)
                if short is None:
                    report.dropped.append(pair.where)
                    continue
                if short[0].tokens == short[1].tokens:
                    raise ConfigError(f"{pair.where}: both answers are the same tokens.")
                kept.append((pair, short))
        report.num_kept = len(kept)
        if not kept:
            raise ConfigError(
                f"max_length = {max_length}: none of {report.num_read:,} pairs fits; the longest "
                f"has {report.longest:,} tokens."
            )
        return cls._gathered(kept, padding(tokenizer)), report

    @classmethod
    def _gathered(cls, kept: Sequence[tuple[SourcedPair, Sides]], pad: int) -> "EncodedPairs":
        parts = []
        for pair, (chosen, rejected) in kept:
            front = chosen.learned.index(True)
            assert chosen.tokens[:front] == rejected.tokens[:front], pair.where
            assert not any(rejected.learned[:front]), pair.where
            parts.append((chosen.tokens[:front], chosen.learned[:front]))
            parts += ((side.tokens[front:], side.learned[front:]) for side in (chosen, rejected))
        sizes = [len(tokens) for tokens, _ in parts]
        return cls(
            np.fromiter(chain.from_iterable(t for t, _ in parts), np.int32, sum(sizes)),
            np.fromiter(chain.from_iterable(x for _, x in parts), np.bool_, sum(sizes)),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            tuple(pair.where for pair, _ in kept),
            pad,
            tuple(pair.label for pair, _ in kept),
        )

    def __len__(self) -> int:
        return len(self.where)

    def part(self, index: int, part: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """The tokens of a part of a pair, and which of them are learned."""
        at = slice(self.offsets[PARTS * index + part], self.offsets[PARTS * index + part + 1])
        return self.tokens[at], self.learned[at]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The tokens of prompt, chosen and rejected answer, a row for each pair."""
        return np.diff(self.offsets).reshape(-1, PARTS)

    def row_lengths(self, *, shared: bool) -> Indices:
        """The tokens of a row that each pair takes, with its prompt once (`shared`) or twice.

        The last token of an answer is a target only; the last one of the prompt is read by both.
        """
        prompt, chosen, rejected = self.lengths.T
        sizes: Indices = (1 if shared else 2) * (prompt - 1) + chosen + rejected
        return sizes

    @cached_property
    def fingerprint(self) -> str:
        """A hash of tokens, what is learned, the borders, and the labels where there are any."""
        labels = [np.array(self.labels)] if self.labels else []
        return hash_of(self.tokens, self.learned, self.offsets, *labels)


def _rendered(pairs: Sequence[SourcedPair], tokenizer: Tokenizer, style: Style) -> list[Sides]:
    conversations = [
        SourcedConversation(pair.where, side, pair.given, tools=pair.tools)
        for pair in pairs
        for side in (pair.chosen, pair.rejected)
    ]
    rendered = []
    found = render_sourced(conversations, tokenizer, "all", style)
    for given, examples in zip(conversations, found, strict=True):
        if len(examples) > 1:
            raise ConfigError(
                f"{given.where}: this chat template renders earlier answers in another way, so a "
                "pair can hold one answer a side; give the others in the prompt."
            )
        rendered.append(examples[0])
    return list(zip(rendered[::2], rendered[1::2], strict=True))


def _longer(sides: Sides) -> int:
    return max(len(side.tokens) for side in sides)


def _shortened(
    pair: SourcedPair,
    sides: Sides,
    tokenizer: Tokenizer,
    style: Style,
    on_long: OnLong,
    report: LengthReport,
) -> Sides | None:
    limit = report.max_length
    if on_long == "drop":
        return None
    if on_long == "error":
        raise ConfigError(
            f"{pair.where}: {_longer(sides):,} tokens, but max_length is {limit:,}; give a longer "
            'one, or on_long "drop" or "truncate_prompt".'
        )
    left_out, system = 0, 1 if pair.chosen[0].role == "system" else 0
    while _longer(sides) > limit and pair.given > system + 1:
        pair = replace(
            pair,
            chosen=(*pair.chosen[:system], *pair.chosen[system + 2 :]),
            rejected=(*pair.rejected[:system], *pair.rejected[system + 2 :]),
            given=pair.given - 2,
        )
        (sides,) = _rendered([pair], tokenizer, style)
        left_out += 1
    excess = max(0, _longer(sides) - limit)
    front = sides[0].learned.index(True)
    start = sides[0].kinds.index("user")
    if excess >= sides[0].kinds[:front].count("user"):
        return None
    report.prompts_cut += 1
    report.answers_left_out += left_out
    chosen, rejected = (without(side, start, start + excess) for side in sides)
    return chosen, rejected
