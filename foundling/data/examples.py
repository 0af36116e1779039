"""Encoded examples of instruction data, in flat arrays."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation
from foundling.text.chat import KINDS, Learn, Rendered, render_batch, render_plain
from foundling.text.tokenizer import Tokenizer

OnLong = Literal["drop", "truncate_prompt", "error"]
Style = Literal["chat", "plain"]
UNBOUNDED = 2**31
"""A `max_length` longer than any conversation."""
BATCH = 1024  # conversations that are encoded together


@dataclass
class LengthReport:
    """What became of conversations that were cut to `max_length` tokens."""

    max_length: int
    num_read: int = 0
    num_kept: int = 0
    dropped: list[str] = field(default_factory=list)  # the rows that are too long
    prompts_cut: int = 0
    answers_left_out: int = 0  # of exchanges that were left out at the front
    longest: int = 0  # tokens, before anything was cut
    noun: str = "conversations"

    @property
    def _bound(self) -> str:
        return f" of at most {self.max_length:,}" if self.max_length < UNBOUNDED else ""

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [
            f"{self.num_kept:,} of {self.num_read:,} {self.noun} kept; the longest has "
            f"{self.longest:,} tokens" + self._bound
        ]
        if self.dropped:
            lines.append(f"dropped {len(self.dropped):,}: too long, first {self.dropped[0]}")
        if self.prompts_cut:
            left_out = f", {self.answers_left_out:,} earlier answers with them"
            lines.append(
                f"cut {self.prompts_cut:,} prompts at the front"
                + (left_out if self.answers_left_out else "")
            )
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "max_length": self.max_length,
            "read": self.num_read,
            "kept": self.num_kept,
            "dropped": len(self.dropped),
            "prompts_cut": self.prompts_cut,
            "answers_left_out": self.answers_left_out,
            "longest": self.longest,
        }


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
        on_long: OnLong = "error",
    ) -> tuple["Examples", LengthReport]:
        """Render conversations, each to at most `max_length` tokens; an answer is never cut.

        Args:
            style: "plain" renders one prompt and one completion without roles.
            on_long: what to do with one that is longer: "drop" it; "error"; or "truncate_prompt":
                first the oldest exchanges, prompt and answer, are left out whole, then tokens at
                the front of the last user message, of which one stays. Begin of text, system
                message, roles and the last answer stay whole; what is too long even so is dropped.

        Raises:
            ConfigError: nothing is left, something is too long, cannot be encoded, or has no
                learned token; the message names the row.
        """
        if max_length < 2:
            raise ConfigError(f"max_length = {max_length}: an example has at least 2 tokens.")
        report = LengthReport(max_length)
        kept: list[tuple[str, Rendered]] = []
        for start in range(0, len(conversations), BATCH):
            some = conversations[start : start + BATCH]
            for given, found in zip(
                some, render_sourced(some, tokenizer, learn, style), strict=True
            ):
                report.num_read += 1
                report.longest = max(report.longest, _longest(found))
                short: list[Rendered] | None = found
                if _longest(found) > max_length:
                    short = _shortened(given, found, tokenizer, learn, style, on_long, report)
                if short is None:
                    report.dropped.append(given.where)
                    continue
                if not all(any(rendered.learned) for rendered in short):
                    raise ConfigError(f"{given.where}: no token of it would be learned.")
                report.num_kept += 1
                kept += ((given.where, rendered) for rendered in short)
        if not kept:
            raise ConfigError(
                f"max_length = {max_length}: none of {report.num_read:,} conversations fits; the "
                f"longest has {report.longest:,} tokens."
            )
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


def render_sourced(
    conversations: Sequence[SourcedConversation], tokenizer: Tokenizer, learn: Learn, style: Style
) -> list[list[Rendered]]:
    """The examples of each conversation, as tokens; an error names the row."""
    if style == "plain":
        return [[_render_plain(given, tokenizer)] for given in conversations]
    try:
        return render_batch(
            [given.messages for given in conversations],
            tokenizer,
            learn=learn,
            given=[given.given for given in conversations],
            tools=[given.tools for given in conversations],
        )
    except ConfigError as error:
        if len(conversations) == 1:
            raise ConfigError(f"{conversations[0].where}: {error}") from None
        # One of them is at fault: which?
        return [render_sourced([given], tokenizer, learn, style)[0] for given in conversations]


def _render_plain(given: SourcedConversation, tokenizer: Tokenizer) -> Rendered:
    roles = [message.role for message in given.messages]
    if roles != ["user", "assistant"]:
        raise ConfigError(
            f'{given.where}: style = "plain" takes one prompt and one completion, not '
            f'{", ".join(roles)}; use "chat".'
        )
    prompt, completion = given.messages
    try:
        return render_plain(prompt.content, completion.content, tokenizer)
    except ConfigError as error:
        raise ConfigError(f"{given.where}: {error}") from None


def _shortened(
    given: SourcedConversation,
    found: list[Rendered],
    tokenizer: Tokenizer,
    learn: Learn,
    style: Style,
    on_long: OnLong,
    report: LengthReport,
) -> list[Rendered] | None:
    limit = report.max_length
    if on_long == "drop":
        return None
    if on_long == "error":
        raise ConfigError(
            f"{given.where}: {_longest(found):,} tokens, but max_length is {limit:,}; give a "
            'longer one, or on_long "drop" or "truncate_prompt".'
        )
    messages, front, left_out = given.messages, given.given, 0
    system = 1 if messages[0].role in ("system", "developer") else 0
    while _longest(found) > limit and len(messages) > system + 2:
        messages = (*messages[:system], *messages[system + 2 :])
        front, left_out = max(system, front - 2), left_out + 1
        fewer = replace(given, messages=messages, given=front)
        (found,) = render_sourced([fewer], tokenizer, learn, style)
    cuts = [_cut(rendered, limit) for rendered in found]
    short = [cut for cut in cuts if cut is not None]
    if short:
        report.prompts_cut += 1
        report.answers_left_out += left_out + len(cuts) - len(short)
    return short or None


def _longest(found: Sequence[Rendered]) -> int:
    return max(len(rendered.tokens) for rendered in found)


def _cut(rendered: Rendered, limit: int) -> Rendered | None:
    """Without the first tokens of the user's message, one exchange; None if it is too short."""
    excess = max(0, len(rendered.tokens) - limit)
    start = rendered.kinds.index("user")
    if excess >= rendered.kinds.count("user"):
        return None
    return without(rendered, start, start + excess)


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
