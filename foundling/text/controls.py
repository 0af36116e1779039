"""Rendered conversations to tokens: special tokens are the template's, never a message's."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError

# Unicode's noncharacters, which texts do not hold. Source: The Unicode Standard, 23.7.
NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
_NONCHARACTER = re.compile("[\ufdd0-\ufdef]")


FEW = 300
"""Names that an expression tries one by one as fast as they are looked up by their lengths."""


class Marks(NamedTuple):
    """Characters that occur nowhere in a conversation, each with a meaning of its own."""

    breaks: str
    """Stands in a text that spells a special token, behind its first character."""
    token: str
    """Encloses the number of a special token."""
    begins: tuple[str, ...]
    """Stand before a content, one for each role."""
    ends: str
    """Stands behind a content."""

    @classmethod
    def free(cls, texts: Iterable[str], num_roles: int) -> "Marks":
        """Marks that occur in none of the texts.

        Raises:
            ConfigError: the texts hold too many noncharacters.
        """
        seen = {found for text in texts for found in _NONCHARACTER.findall(text)}
        left = [character for character in NONCHARACTERS if character not in seen]
        if len(left) < num_roles + 3:
            raise ConfigError(
                f"the messages hold {len(NONCHARACTERS) - len(left)} kinds of Unicode "
                "noncharacters (U+FDD0 to U+FDEF), which are not text; remove them."
            )
        return cls(left[0], left[1], tuple(left[3 : 3 + num_roles]), left[2])


class Encoded(NamedTuple):
    """Tokens, and the character of the settled text at which each one starts."""

    ids: list[int]
    starts: list[int]


class Controls:
    """The special tokens of a tokenizer, and its encoder of texts where they are marked.

    A rendered conversation is encoded whole, as `transformers` does. What a message spells is
    told apart from what the template writes by marks: `mark` breaks the spellings in a message
    before it is rendered; `settled` then puts marks in place of the special tokens that are whole,
    which only the template can have written, and `encode` takes these alone for tokens.

    Where special tokens leave the text around them as it is, what stands between them is encoded
    by the tokenizer itself; else by a copy of it, which takes seconds to make of a large one.
    """

    def __init__(
        self, backend: Backend, settings: Mapping[str, Any], names: Mapping[str, int]
    ) -> None:
        """Of a tokenizer that reads no special token in a text, and what tokenizer.json says.

        Args:
            names: the ids of the special tokens by their names.
        """
        self._backend, self._settings, self._names = backend, settings, names
        self._lengths = sorted({len(name) for name in names}, reverse=True)
        starts = "".join(sorted({name[0] for name in names}))
        self._starts = re.compile(f"[{re.escape(starts)}]") if starts else re.compile("(?!)")
        self._encoders: dict[str, Backend] = {}

    @cached_property
    def ids(self) -> frozenset[int]:
        return frozenset(self._names.values())

    def mark(self, value: Any, marks: Marks) -> Any:
        """The text, or all texts in a list or a mapping, with no special token spelled in them."""
        if isinstance(value, str):
            return self._broken(value, marks.breaks)
        if isinstance(value, dict):
            return {self.mark(k, marks): self.mark(v, marks) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item, marks) for item in value]
        return value

    def settled(self, text: str, marks: Marks) -> str:
        """A rendered text with its special tokens marked, and the other marks gone."""
        if self._spellings is not None:
            token = marks.token
            marked = self._spellings.sub(lambda m: f"{token}{self._names[m[0]]}{token}", text)
            return marked.replace(marks.breaks, "")
        parts: list[str] = []
        done = 0
        for start, stop in self.found(text):
            number = self._names[text[start:stop]]
            parts += (text[done:start], f"{marks.token}{number}{marks.token}")
            done = stop
        return "".join((*parts, text[done:])).replace(marks.breaks, "")

    def encode(self, texts: list[str], marks: Marks) -> list[Encoded]:
        """Settled texts as tokens."""
        found = self._encode_between(texts, marks) if self._leaves_text_alone else None
        return self._encode_respelled(texts, marks) if found is None else found

    # ------------------------------------------------------------------ inside

    def _encode_between(self, texts: list[str], marks: Marks) -> list[Encoded] | None:
        """None if what stands between special tokens becomes one of them."""
        border = re.compile(f"{marks.token}(\\d+){marks.token}")
        split = [border.split(text) for text in texts]  # text, number, text, ..., number, text
        # What a template writes in every conversation is encoded once.
        between = list({part: None for parts in split for part in parts[::2] if part})
        encoded: dict[str, Encoded] = {}
        encodings = self._backend.encode_batch(between, add_special_tokens=False)
        for part, encoding in zip(between, encodings, strict=True):
            if not self.ids.isdisjoint(encoding.ids):
                return None
            encoded[part] = Encoded(encoding.ids, [start for start, _ in encoding.offsets])
        found = []
        for parts in split:
            ids: list[int] = []
            starts: list[int] = []
            at = 0
            for place, part in enumerate(parts):
                if place % 2:
                    ids.append(int(part))
                    starts.append(at)
                    at += len(part) + 2
                elif part:
                    own = encoded[part]
                    ids += own.ids
                    starts += [at + start for start in own.starts]
                    at += len(part)
            found.append(Encoded(ids, starts))
        return found

    @cached_property
    def _leaves_text_alone(self) -> bool:
        """Whether texts between special tokens are encoded as if each stood by itself."""
        normalizes = self._settings["normalizer"] is not None
        takes = ("lstrip", "rstrip", "single_word", *(("normalized",) if normalizes else ()))
        return (
            not any(
                token[name]
                for token in self._settings["added_tokens"]
                if token["content"] in self._names
                for name in takes
            )
            # What only the first word of a text gets, and offsets without the space of a word.
            and '"prepend_scheme": "first"' not in json.dumps(self._settings["pre_tokenizer"])
            and not _trims(self._settings["post_processor"])
        )

    def _encode_respelled(self, texts: list[str], marks: Marks) -> list[Encoded]:
        encoder = self._encoders.get(marks.token)
        if encoder is None:
            encoder = self._encoders[marks.token] = self._encoder(marks.token)
        encodings = encoder.encode_batch(texts, add_special_tokens=False)
        return [Encoded(one.ids, [start for start, _ in one.offsets]) for one in encodings]

    def found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the text spells special tokens: the leftmost first, and the longest of those."""
        done = 0
        for match in self._starts.finditer(text):
            start = match.start()
            if start < done:
                continue
            for length in self._lengths:
                if text[start : start + length] in self._names:
                    done = start + length
                    yield start, done
                    break

    def _broken(self, text: str, mark: str) -> str:
        if self._starts.search(text) is None:  # as most texts: nothing begins like a special token
            return text
        cuts = []
        # One that is spelled within another would be whole once the other one is broken.
        for match in self._starts.finditer(text):
            start = match.start()
            if any(text[start : start + length] in self._names for length in self._lengths):
                cuts.append(start + 1)
        body = text.rstrip()
        tails = (body[-length:] for length in range(1, max(self._lengths, default=0)))
        if any(tail in self._fronts for tail in tails):  # what follows could complete the token
            cuts.append(len(body))
        if not cuts:
            return text
        parts = [text[start:stop] for start, stop in pairwise([0, *cuts, len(text)])]
        return mark.join(parts)

    @cached_property
    def _spellings(self) -> re.Pattern[str] | None:
        """What `found` finds, as an expression; None where there are too many for it."""
        if len(self._names) > FEW:
            return None
        names = sorted(self._names, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or "(?!)")

    @cached_property
    def _fronts(self) -> frozenset[str]:
        """What a special token can begin with."""
        return frozenset(name[:length] for name in self._names for length in range(1, len(name)))

    def _encoder(self, mark: str) -> Backend:
        """The same tokenizer, whose special tokens are spelled by their numbers between marks."""
        ours = {name: f"{mark}{number}{mark}" for name, number in self._names.items()}
        added = [
            {**token, "content": ours.get(token["content"], token["content"])}
            for token in self._settings["added_tokens"]
        ]
        model = dict(self._settings["model"])
        vocab = model["vocab"]
        if isinstance(vocab, dict):
            model["vocab"] = {ours.get(name, name): number for name, number in vocab.items()}
        else:  # of a unigram model: pairs of a token and its score
            model["vocab"] = [[ours.get(name, name), score] for name, score in vocab]
        if model.get("merges"):
            model["merges"] = [pair for pair in model["merges"] if _joined(pair) not in ours]
        if model.get("unk_token") in ours:
            model["unk_token"] = ours[model["unk_token"]]
        without = {"post_processor": None, "truncation": None, "padding": None}
        settings = {**self._settings, **without, "added_tokens": added, "model": model}
        return Backend.from_str(json.dumps(settings))


def _trims(processor: Mapping[str, Any] | None) -> bool:
    """Whether a post-processor leaves the space of a word out of its token's offsets."""
    if processor is None:
        return False
    if processor["type"] == "Sequence":
        return any(map(_trims, processor["processors"]))
    return bool(processor.get("trim_offsets", False))


def _joined(merge: str | list[str]) -> str:
    return merge.replace(" ", "") if isinstance(merge, str) else "".join(merge)
