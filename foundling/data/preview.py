"""Shows examples as they are trained on: every token, its kind, and whether it is learned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from foundling.data.examples import Examples
from foundling.text.chat import Kind
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.tokenizer import Tokenizer

Shown = Kind | Literal["template"]
LOOKS: dict[Shown, str] = {
    "special": "magenta reverse",
    "template": "magenta",
    "system": "yellow",
    "developer": "yellow",
    "user": "cyan",
    "tool": "blue",
    "assistant": "green",
}
MEANINGS: dict[Shown, str] = {
    "special": "special token",
    "template": "text of the template",
    "system": "system message",
    "developer": "developer's message",
    "user": "prompt",
    "tool": "tool's message",
    "assistant": "answer",
}


@dataclass(frozen=True)
class ShownToken:
    """A token, or several that make one character only together."""

    text: str
    ids: tuple[int, ...]
    kind: Shown
    learned: bool
    ends_turn: bool = False


@dataclass(frozen=True)
class ShownRow:
    """An example as it is shown; `number` counts from 1."""

    number: int
    where: str
    tokens: tuple[ShownToken, ...]
    num_tokens: int
    num_learned: int

    @property
    def share_learned(self) -> float:
        return self.num_learned / self.num_tokens

    def runs(self) -> Iterator[tuple[bool, list[ShownToken]]]:
        """Tokens that follow one another and are all learned, or all not."""
        for learned, tokens in groupby(self.tokens, key=lambda token: token.learned):
            yield learned, list(tokens)


def preview_rows(
    examples: Examples, tokenizer: Tokenizer, indices: Sequence[int]
) -> list[ShownRow]:
    """The examples of these numbers (from 0), token by token."""
    return [_row(examples, tokenizer, index) for index in indices]


def terminal(rows: Sequence[ShownRow]) -> RenderableType:
    """The rows for the terminal; what is learned is named so, underlined and bold."""
    parts: list[RenderableType] = [_legend(meanings(rows)), Text()]
    for row in rows:
        head = Text.assemble((f"row {row.number:,}", "bold"), f"  {_visible(row.where)}  ")
        head.append(_counts(row), style="dim")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for learned, tokens in row.runs():
            name = Text("learned", style="bold") if learned else Text("masked", style="dim")
            table.add_row(name, _styled(tokens))
        parts += [head, table, Text()]
    return Group(*parts)


def html(rows: Sequence[ShownRow], *, title: str, notes: Sequence[str] = ()) -> str:
    """The rows as one page that needs no other file; a token's id shows under the pointer."""
    environment = Environment(
        loader=PackageLoader("foundling.data"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": _visible, "counts": _counts, "hint": _hint}
    return environment.get_template("preview.html.j2").render(
        title=title, notes=notes, rows=rows, meanings=meanings(rows)
    )


def meanings(rows: Sequence[ShownRow]) -> dict[Shown, str]:
    """What the kinds of tokens in the rows are."""
    kinds = {token.kind for row in rows for token in row.tokens}
    return {kind: meaning for kind, meaning in MEANINGS.items() if kind in kinds}


def _row(examples: Examples, tokenizer: Tokenizer, index: int) -> ShownRow:
    rendered = examples.rendered(index)
    decoder = StreamDecoder(tokenizer, show_special=True)
    shown: list[ShownToken] = []
    waiting: list[int] = []  # tokens that are a part of a character so far
    special, stops = tokenizer.special_ids, tokenizer.stop_ids
    kinds: list[Shown] = [
        "template" if kind == "special" and token not in special else kind
        for token, kind in zip(rendered.tokens, rendered.kinds, strict=True)
    ]
    triples = list(zip(rendered.tokens, kinds, rendered.learned, strict=True))
    for at, (token, kind, learned) in enumerate(triples):
        waiting.append(token)
        text = decoder.push(token)
        continues = at + 1 < len(triples) and triples[at + 1][1:] == (kind, learned)
        if continues and not text:
            continue
        if not continues:  # another segment begins: nothing may spill over into it
            text += decoder.flush()
            decoder = StreamDecoder(tokenizer, show_special=True, continues=True)
        ends_turn = kind == "special" and token in stops
        shown.append(ShownToken(text, tuple(waiting), kind, learned, ends_turn))
        waiting = []
    return ShownRow(
        index + 1,
        examples.where[index],
        tuple(shown),
        len(rendered.tokens),
        sum(rendered.learned),
    )


def _legend(kinds: Mapping[Shown, str]) -> Text:
    legend = Text()
    for kind, meaning in kinds.items():
        legend.append(meaning, style=_style(kind, learned=False)).append("   ")
    legend.append("learned", style="bold underline").append("   ")
    return legend.append("masked: read, but not learned", style="dim")


def _styled(tokens: Sequence[ShownToken]) -> Text:
    text = Text()
    for (kind, learned), same in groupby(tokens, key=lambda token: (token.kind, token.learned)):
        shown = "".join(_visible(token.text) for token in same)
        text.append(shown, style=_style(kind, learned))
    if text.plain.endswith("\n"):  # the table ends the line
        text.right_crop(1)
    return text


def _style(kind: Shown, learned: bool) -> str:
    return f"{LOOKS[kind]} bold underline" if learned else LOOKS[kind]


def _counts(row: ShownRow) -> str:
    return f"{row.num_tokens:,} tokens, {row.num_learned:,} learned ({row.share_learned:.0%})"


def _hint(token: ShownToken) -> str:
    ids = " + ".join(map(str, token.ids))
    return f"{'token' if len(token.ids) == 1 else 'tokens'} {ids}"


def _visible(text: str) -> str:
    """Line ends marked, and control characters as their pictures, so that they do nothing."""
    return "".join(map(_picture, text))


def _picture(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return "↵\n"
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"⟨U+{code:04X}⟩" if 0x80 <= code < 0xA0 or code in _BIDI else character


# They turn the direction of what follows, so that it would not read as it is.
_BIDI = frozenset((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F))
