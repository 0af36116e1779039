"""Encoded pairs of answers, in flat arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation, SourcedPair
from foundling.data.examples import LengthReport, hash_of, padding, question, without
from foundling.data.packing import Indices
from foundling.data.rendering import OnLong, Rendering, SpecialTokens, Style
from foundling.data.source_errors import SourceError
from foundling.data.sources import OnError
from foundling.text.chat import Rendered, later_exchanges
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
        special_tokens: SpecialTokens = "text",
        on_long: OnLong = "error",
        on_error: OnError = "stop",
    ) -> tuple["EncodedPairs", LengthReport]:
        """Render pairs, prompt and longer answer to at most `max_length` tokens.

        Args:
            style, special_tokens: see Rendering.
            on_long: what to do with a longer one: "drop" it; "error"; or "truncate_prompt": first
                the oldest exchanges are left out whole, then tokens at the front of the last user
                message, of which one stays. No answer is cut: what is too long even so is dropped.
            on_error: what to do with one that the template refuses, or renders as several examples
                a side, or whose answers are the same tokens: "skip" counts it.

        Raises:
            ConfigError: nothing is left, something is too long or cannot be rendered, or both
                answers are the same tokens; the message names the row.
        """
        if max_length < 2:
            raise ConfigError(f"max_length = {max_length}: a pair has at least 2 tokens a side.")
        rendering = Rendering(tokenizer, style, special_tokens=special_tokens)
        rendering.check(on_long)
        report = LengthReport(max_length, noun="pairs")
        kept: list[tuple[SourcedPair, Sides]] = []
        for pair, found in _rendered(pairs, rendering):
            report.num_read += 1
            try:
                sides = _sides(pair, found)
                report.longest = max(report.longest, _longer(sides))
                short: Sides | None = sides
                if _longer(sides) > max_length:
                    short = _shortened(pair, sides, rendering, on_long, report)
                if short is None:
                    report.dropped.append(pair.where)
                    continue
                if short[0].tokens == short[1].tokens:
                    raise SourceError(
                        "same tokens", f"{pair.where}: both answers are the same tokens."
                    )
            except SourceError as error:
                if on_error == "stop":
                    raise
                report.faults.append(error)
            else:
                kept.append((pair, short))
        report.num_kept = report.num_examples = len(kept)
        report.spelled = rendering.spelled(
            ((*pair.chosen, *pair.rejected), pair.tools) for pair in pairs
        )
        if not kept:
            raise report.nothing_left()
        return cls._gathered(kept, padding(tokenizer)), report

    @classmethod
    def _gathered(cls, kept: Sequence[tuple[SourcedPair, Sides]], pad: int) -> "EncodedPairs":
        parts = []
        for pair, sides in kept:
            front = _shared(sides)
            assert front, pair.where
            parts.append((sides[0].tokens[:front], sides[0].learned[:front]))
            parts += ((side.tokens[front:], side.learned[front:]) for side in sides)
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


Found = list[Rendered] | SourceError


def _rendered(
    pairs: Sequence[SourcedPair], rendering: Rendering
) -> Iterator[tuple[SourcedPair, tuple[Found, Found]]]:
    """Each pair with what its sides are rendered to."""
    sides = [
        SourcedConversation(pair.where, side, pair.given, tools=pair.tools)
        for pair in pairs
        for side in (pair.chosen, pair.rejected)
    ]
    found = (examples for _, examples in rendering.each(sides))
    for pair in pairs:
        yield pair, (next(found), next(found))


def _sides(pair: SourcedPair, found: tuple[Found, Found]) -> Sides:
    """The sides of a pair, one example each.

    Raises:
        SourceError: one cannot be rendered, or not as one example.
    """
    sides = []
    for examples in found:
        if isinstance(examples, SourceError):
            raise examples
        if len(examples) > 1:
            raise SourceError(
                "several examples",
                f"{pair.where}: this chat template renders earlier answers in another way, so a "
                "pair can hold one answer a side; give the others in the prompt.",
            )
        sides += examples
    chosen, rejected = sides
    return chosen, rejected


def _shared(sides: Sides) -> int:
    """How many tokens stand before both answers: where these begin, or the sides part."""
    chosen, rejected = sides
    most = min(chosen.learned.index(True), rejected.learned.index(True))
    parted = (n for n in range(most) if chosen.tokens[n] != rejected.tokens[n])
    return next(parted, most)


def _longer(sides: Sides) -> int:
    return max(len(side.tokens) for side in sides)


def _shortened(
    pair: SourcedPair, sides: Sides, rendering: Rendering, on_long: OnLong, report: LengthReport
) -> Sides | None:
    limit, left_out = report.max_length, 0
    if on_long == "drop":
        return None
    if on_long == "error":
        raise report.too_long(pair.where, _longer(sides))
    while _longer(sides) > limit:
        fewer = _without_oldest(pair)
        if fewer is None:
            break
        pair, left_out = fewer, left_out + 1
        ((_, found),) = _rendered([pair], rendering)
        sides = _sides(pair, found)
    excess = max(0, _longer(sides) - limit)
    start, stop = question(sides[0], _shared(sides))
    if start + excess >= stop:
        return None
    report.prompts_cut += 1
    report.answers_left_out += left_out
    chosen, rejected = (without(side, start, start + excess) for side in sides)
    return chosen, rejected


def _without_oldest(pair: SourcedPair) -> SourcedPair | None:
    """The pair without the oldest exchange of its prompt; None where that has but one."""
    chosen, rejected = (later_exchanges(side, pair.given) for side in (pair.chosen, pair.rejected))
    if chosen is None or rejected is None:
        return None
    given = pair.given - (len(pair.chosen) - len(chosen))
    return replace(pair, chosen=chosen, rejected=rejected, given=given)
