"""A text as a model reads it: its tokens, and the words that they make up."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
"""Thai, Lao, Burmese, Khmer, kana and Han: scripts that put no space between words."""
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+(?:['’-]\w+)*|[^\w\s]+")
"""Letters and digits with inner apostrophes and hyphens, a run of punctuation, or a single letter
of a script without spaces."""


@dataclass(frozen=True)
class Word:
    """A word, where it stands among the characters of the text and among the tokens, ends excluded.

    The begin mark is a word without characters, spelled as the vocabulary spells it.
    """

    text: str
    start: int
    stop: int
    first_token: int
    stop_token: int


@dataclass(frozen=True)
class Reading:
    """A text, its tokens with the begin mark (where there is one), and its words in order.

    Every token belongs to one word. White space goes with the word that follows it, at the end
    with the last one. A token that holds several words makes one word of them.
    """

    text: str
    tokens: tuple[int, ...]
    words: tuple[Word, ...]

    def covering(self, start: int, stop: int) -> range:
        """The numbers of the words that share a character with `text[start:stop]`.

        Raises:
            ValueError: no word does.
        """
        found = [n for n, w in enumerate(self.words) if w.start < stop and start < w.stop]
        if not found:
            raise ValueError(f"characters {start} to {stop} of {self.text!r}: no word is there.")
        return range(found[0], found[-1] + 1)

    @cached_property
    def membership(self) -> Float[Tensor, "words time"]:
        """1 where a token belongs to a word, else 0."""
        table = torch.zeros(len(self.words), len(self.tokens))
        for row, word in zip(table, self.words, strict=True):
            row[word.first_token : word.stop_token] = 1
        return table

    def by_word(self, weights: Float[Tensor, "*n time time"]) -> Float[Tensor, "*n words words"]:
        """Weights from word to word: summed over the source's tokens, the mean of the target's.

        Rows that sum to 1 still do. Tokens "the" "dog" "gy" with weights (1, 0, 0), (.4, .6, 0),
        (.2, .3, .5): "doggy" attends (.3, .7).
        """
        member = self.membership.to(weights)
        return (member / member.sum(1, keepdim=True)) @ weights @ member.T


def read(text: str, tokenizer: Tokenizer, *, by_token: bool = False) -> Reading:
    """The text as a model reads it that has seen nothing before; `by_token`: a word a token."""
    ids, offsets = tokenizer.encode_with_offsets(text)
    begin = tuple(tokenizer.begin_ids)
    words = [Word(tokenizer.name_of(begin[0]), 0, 0, 0, len(begin))] if begin else []
    if by_token:
        words += [
            Word(text[start:stop], start, stop, index, index + 1)
            for index, (start, stop) in enumerate(offsets, len(begin))
        ]
        return Reading(text, (*begin, *ids), tuple(words))
    words += _grouped(text, [match.span() for match in _WORD.finditer(text)], offsets, len(begin))
    return Reading(text, (*begin, *ids), tuple(words))


def read_turn(text: str, tokenizer: Tokenizer, *, by_token: bool = False) -> Reading:
    """The text as a user's message, in the model's chat template up to where its answer begins.

    The reading's text is all of that, with special tokens as the vocabulary spells them; each is a
    word.

    Raises:
        ConfigError: there is no chat template, or it refuses the message.
    """
    tokens = render_prompt((Message("user", text),), tokenizer)
    special = [token in tokenizer.special_ids for token in tokens]
    parts = [
        tokenizer.name_of(token).encode() if is_special else tokenizer.bytes_of(token)
        for token, is_special in zip(tokens, special, strict=True)
    ]
    joined = b"".join(parts)
    whole = joined.decode("utf-8", "replace")
    begun = [0, *accumulate((byte & 0xC0) != 0x80 for byte in joined)]  # letters before each byte
    ends = [0, *accumulate(map(len, parts))]
    offsets = [(begun[min(a + 1, b)] - (a < b), begun[b]) for a, b in pairwise(ends)]
    if by_token:
        words = [Word(whole[a:b], a, b, n, n + 1) for n, (a, b) in enumerate(offsets)]
        return Reading(whole, tuple(tokens), tuple(words))
    marks = [span for span, is_special in zip(offsets, special, strict=True) if is_special]
    found, at = [], 0
    for start, stop in [*marks, (len(whole), len(whole))]:
        found += [match.span() for match in _WORD.finditer(whole, at, start)]
        found += [(start, stop)] if start < stop else []
        at = stop
    return Reading(whole, tuple(tokens), tuple(_grouped(whole, found, offsets, 0)))


def _grouped(
    text: str, found: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]], before: int
) -> list[Word]:
    """Tokens as words: `found` are the words' characters, `offsets` those of the tokens.

    `before` counts tokens ahead of the first.
    """
    groups: list[tuple[int, int]] = []  # the number of a word and its first token
    number = 0
    for index, (start, stop) in enumerate(offsets, before):
        first = next((at for at in range(start, stop) if not text[at].isspace()), stop)
        while number < len(found) - 1 and found[number][1] <= first:
            number += 1
        if not groups or groups[-1][0] != number:
            groups.append((number, index))
    ends_at = [*groups, (len(found), before + len(offsets))][1:]
    words = []
    for (number, index), (after, stop_index) in zip(groups, ends_at, strict=True):
        begins, ends = (found[number][0], found[after - 1][1]) if found else (0, len(text))
        words.append(Word(text[begins:ends], begins, ends, index, stop_index))
    return words
