"""Encoded examples of instruction data, in flat arrays."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation
from foundling.data.rendering import (
    OnLong,
    Rendering,
    SpecialTokens,
    Style,
    examples_of,
    without_oldest,
)
from foundling.data.source_errors import SourceError
from foundling.data.sources import OnError
from foundling.text.chat import KINDS, Learn, Rendered
from foundling.text.tokenizer import Tokenizer

UNBOUNDED = 2**31
"""A `max_length` longer than any conversation."""


@dataclass
class LengthReport:
    """What became of conversations that were rendered, and cut to `max_length` tokens."""

    max_length: int
    num_read: int = 0
    num_kept: int = 0
    num_examples: int = 0  # more than are kept where some are several examples
    dropped: list[str] = field(default_factory=list)  # the rows, or examples, that are too long
    left_out: list[str] = field(default_factory=list)  # of these, examples of rows that are kept
    faults: list[SourceError] = field(default_factory=list)  # of rows that cannot be rendered
    unlearned: list[str] = field(default_factory=list)  # the rows whose learned answers weigh 0
    spelled: Counter[str] = field(default_factory=Counter)  # special tokens, and by how many rows
    prompts_cut: int = 0
    answers_left_out: int = 0  # of exchanges that were left out at the front
    longest: int = 0  # tokens, before anything was cut
    noun: str = "conversations"

    def too_long(self, where: str, length: int) -> ConfigError:
        """What is wrong with a row of so many tokens."""
        return ConfigError(
            f"{where}: {length:,} tokens, but max_length is {self.max_length:,}; give a longer "
            'one, or on_long "drop" or "truncate_prompt".'
        )

    def nothing_left(self) -> ConfigError:
        """What is wrong where nothing is kept."""
        if self.faults and not self.dropped:
            return ConfigError(
                f"none of {self.num_read:,} {self.noun} can be rendered; the first fault: "
                f"{self.faults[0]}"
            )
        if self.unlearned and not self.dropped:
            return ConfigError(f"{self.unlearned[0]}: the answers to be learned have weight 0.")
        return ConfigError(
            f"max_length = {self.max_length}: none of {self.num_read:,} {self.noun} fits; the "
            f"longest has {self.longest:,} tokens."
        )

    @property
    def _bound(self) -> str:
        return f" of at most {self.max_length:,}" if self.max_length < UNBOUNDED else ""

    @property
    def _rows_dropped(self) -> list[str]:
        """The rows of which nothing is short enough."""
        examples = set(self.left_out)
        return [where for where in self.dropped if where not in examples]

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [
            f"{self.num_kept:,} of {self.num_read:,} {self.noun} kept; the longest has "
            f"{self.longest:,} tokens" + self._bound
        ]
        if self.num_examples + len(self.left_out) > self.num_kept:
            lines.append(
                f"{_count(self.num_kept, self.noun)} became "
                f"{_count(self.num_examples + len(self.left_out), 'examples')}, because the "
                "template renders history differently"
            )
        if self.left_out:
            lines.append(
                f"left out {_count(len(self.left_out), 'examples')} of them: too long, first "
                f"{self.left_out[0]}"
            )
        if self.faults:
            lines.append(
                f"dropped {len(self.faults):,}: cannot be rendered, first {self.faults[0]}"
            )
        if self.unlearned:
            lines.append(
                f"dropped {len(self.unlearned):,}: the answers to be learned have weight 0, first "
                f"{self.unlearned[0]}"
            )
        if self.spelled:
            named = ", ".join(f"{name} ({count:,})" for name, count in self.spelled.most_common(5))
            lines.append(f"special tokens that rows spell stay text: {named}")
        if rows := self._rows_dropped:
            lines.append(f"dropped {len(rows):,}: too long, first {rows[0]}")
        if self.prompts_cut:
            left_out = f", {_count(self.answers_left_out, 'earlier answers')} with them"
            lines.append(
                f"cut {_count(self.prompts_cut, 'prompts')} at the front"
                + (left_out if self.answers_left_out else "")
            )
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "max_length": self.max_length,
            "read": self.num_read,
            "kept": self.num_kept,
            "examples": self.num_examples,
            "dropped": len(self._rows_dropped),
            "examples_left_out": len(self.left_out),
            "cannot_be_rendered": len(self.faults),
            "weight_0": len(self.unlearned),
            "prompts_cut": self.prompts_cut,
            "answers_left_out": self.answers_left_out,
            "longest": self.longest,
        }


def _count(number: int, things: str) -> str:
    """The number with what is counted: "1 example", "2 examples"."""
    return f"{number:,} {things if number != 1 else things.removesuffix('s')}"


@dataclass(frozen=True)
class Examples:
    """Examples one after the other; example `i` is `offsets[i]` to `offsets[i + 1]`."""

    tokens: npt.NDArray[np.int32]
    learned: npt.NDArray[np.bool_]  # the token is a target with loss
    kinds: npt.NDArray[np.uint8]  # an index into KINDS
    offsets: npt.NDArray[np.int64]
    where: tuple[str, ...]
    pad: int

    @classmethod
    def make(
        cls,
        conversations: Sequence[SourcedConversation],
        tokenizer: Tokenizer,
        *,
        max_length: int,
        learn: Learn = "all",
        style: Style = "chat",
        special_tokens: SpecialTokens = "text",
        on_long: OnLong = "error",
        on_error: OnError = "stop",
    ) -> tuple["Examples", LengthReport]:
        """Render conversations, each to at most `max_length` tokens; an answer is never cut.

        One whose history the template renders in another way than its answers is several examples.

        Args:
            learn, style, special_tokens: see Rendering.
            on_long: what to do with one that is longer: "drop" it; "error"; or "truncate_prompt":
                first the oldest exchanges, prompt and answer, are left out whole, then tokens at
                the front of the last user message, of which one stays. Begin of text, system
                message, roles and the last answer stay whole; what is too long even so is dropped.
            on_error: what to do with one that the template refuses or of which nothing is learned:
                "skip" counts it. One whose learned answers have weight 0 is always counted.

        Raises:
            ConfigError: nothing is left, something is too long, cannot be rendered, or has no
                learned token; the message names the row.
        """
        if max_length < 2:
            raise ConfigError(f"max_length = {max_length}: an example has at least 2 tokens.")
        rendering = Rendering(tokenizer, style, learn, special_tokens)
        rendering.check(on_long)
        report = LengthReport(max_length)
        kept: list[tuple[str, Rendered]] = []
        for given, found in rendering.each(conversations):
            report.num_read += 1
            try:
                if isinstance(found, SourceError):
                    raise found
                fitting = _fitting(given, found, rendering, on_long, report)
            except SourceError as error:
                if on_error == "stop":
                    raise
                report.faults.append(error)
                continue
            report.num_kept += bool(fitting)
            kept += fitting
        report.num_examples = len(kept)
        report.spelled = rendering.spelled((given.messages, given.tools) for given in conversations)
        if not kept:
            raise report.nothing_left()
        return cls._gathered(kept, tokenizer), report

    @classmethod
    def _gathered(cls, kept: Sequence[tuple[str, Rendered]], tokenizer: Tokenizer) -> "Examples":
        lengths = [len(rendered.tokens) for _, rendered in kept]
        size, number = sum(lengths), {kind: index for index, kind in enumerate(KINDS)}

        def flat(part: Callable[[Rendered], Sequence[int]], dtype: Any) -> Any:
            parts = (part(rendered) for _, rendered in kept)
            return np.fromiter(chain.from_iterable(parts), dtype=dtype, count=size)

        return cls(
            flat(lambda rendered: rendered.tokens, np.int32),
            flat(lambda rendered: rendered.learned, np.bool_),
            flat(lambda rendered: [number[kind] for kind in rendered.kinds], np.uint8),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            tuple(where for where, _ in kept),
            padding(tokenizer),
        )

    def __len__(self) -> int:
        return len(self.where)

    def rendered(self, index: int) -> Rendered:
        """One example as it is trained on."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        kinds = [KINDS[number] for number in self.kinds[part]]
        return Rendered(self.tokens[part].tolist(), self.learned[part].tolist(), kinds)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @cached_property
    def num_targets(self) -> int:
        """All learned tokens."""
        return int(self.learned.sum())

    @cached_property
    def target_ids(self) -> npt.NDArray[np.int64]:
        """The number of each learned token among all; -1 for the others."""
        return np.where(self.learned, np.cumsum(self.learned) - 1, -1)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of tokens, what is learned, and the borders."""
        return hash_of(self.tokens, self.learned, self.offsets)


def padding(tokenizer: Tokenizer) -> int:
    """The token that fills rows; the end of text where there is none for it."""
    return tokenizer.end_of_text if tokenizer.pad_name is None else tokenizer.pad


def _fitting(
    given: SourcedConversation,
    found: Sequence[Rendered],
    rendering: Rendering,
    on_long: OnLong,
    report: LengthReport,
) -> list[tuple[str, Rendered]]:
    """The examples of a conversation that are short enough, with their places.

    Raises:
        SourceError: nothing of it is learned, or it is too long and that is an error.
    """
    if not all(any(rendered.learned) for rendered in found):
        if all(message.weight for message in given.messages):
            raise SourceError("not learned", f"{given.where}: no token of it would be learned.")
        report.unlearned.append(given.where)
        return []
    fitting: list[tuple[str, Rendered]] = []
    long = []
    for one, rendered in examples_of(given, found):
        report.longest = max(report.longest, len(rendered.tokens))
        short: Rendered | None = rendered
        if len(rendered.tokens) > report.max_length:
            alone = rendering if len(found) == 1 else replace(rendering, learn="last")
            short = _shortened(one, rendered, alone, on_long, report)
        if short is None:
            long.append(one.where)
        else:
            fitting.append((one.where, short))
    report.dropped += long if fitting else [given.where]
    report.left_out += long if fitting else []
    return fitting


def _shortened(
    given: SourcedConversation,
    rendered: Rendered,
    rendering: Rendering,
    on_long: OnLong,
    report: LengthReport,
) -> Rendered | None:
    limit = report.max_length
    if on_long == "drop":
        return None
    if on_long == "error":
        raise report.too_long(given.where, len(rendered.tokens))
    left_out = 0
    while len(rendered.tokens) > limit:
        fewer = without_oldest(given)
        if fewer is None:
            break
        given, left_out = fewer, left_out + 1
        rendered = rendering.again(given)
    cut = _cut(rendered, limit)
    if cut is not None:
        report.prompts_cut += 1
        report.answers_left_out += left_out
    return cut


def _cut(rendered: Rendered, limit: int) -> Rendered | None:
    """Without the first tokens of the user's message, one exchange; None if it is too short."""
    excess = max(0, len(rendered.tokens) - limit)
    start, stop = question(rendered, len(rendered.tokens))
    return without(rendered, start, start + excess) if start + excess < stop else None


def question(rendered: Rendered, stop: int) -> tuple[int, int]:
    """From where to before where the user's first message stands before `stop`; (0, 0): nowhere."""
    kinds = rendered.kinds
    start = next((place for place in range(stop) if kinds[place] == "user"), None)
    if start is None:
        return 0, 0
    return start, next((place for place in range(start, stop) if kinds[place] != "user"), stop)


def without(rendered: Rendered, start: int, stop: int) -> Rendered:
    """All tokens but those from `start` to before `stop`."""
    tokens, learned, kinds = rendered.tokens, rendered.learned, rendered.kinds
    return Rendered(
        tokens[:start] + tokens[stop:],
        learned[:start] + learned[stop:],
        kinds[:start] + kinds[stop:],
    )


def hash_of(*arrays: npt.NDArray[Any]) -> str:
    """A hash of flat arrays, their types and their lengths."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{len(array)}/".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
