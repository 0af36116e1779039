"""Grammars that a model's text must follow: JSON schemas, regular expressions, Lark."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary, proxy

import numpy as np
import torch
from jaxtyping import Bool
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.text.tokenizer import Tokenizer


@runtime_checkable
class Constraint(Protocol):
    """A grammar and where in it a text stands."""

    @property
    def finished(self) -> bool:
        """The text is complete: nothing but its end is permitted."""

    def mask(self) -> Bool[Tensor, " vocab"]:
        """The tokens that may come next."""

    def accept(self, token: int) -> None:
        """Move on by a token."""

    def rollback(self, num_tokens: int) -> None:
        """Go back by so many tokens."""


@dataclass(frozen=True)
class Grammar:
    """All the texts that may be written, in the form that llguidance reads.

    Source: llguidance 1.9, docs/syntax.md and docs/json_schema.md.
    """

    source: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> "Grammar":
        """JSON that the schema allows, its keys in the schema's order.

        It is written without white space, of which small models would write no end.

        Raises:
            ConfigError: the schema is no schema, or uses what cannot be enforced.
        """
        try:
            source = LLMatcher.grammar_from_json_schema(
                json.dumps(schema), overrides={"whitespace_flexible": False, "lenient": False}
            )
        except (TypeError, ValueError, RecursionError) as error:  # numbers or depth beyond bounds
            raise _refusal(str(error)) from None
        return cls._checked(source)

    @classmethod
    def json_object(cls) -> "Grammar":
        """Any JSON object, without white space."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def regex(cls, pattern: str) -> "Grammar":
        """Texts that match the whole of a regular expression, without looking around.

        Raises:
            ConfigError: it is no such expression.
        """
        return cls._checked(LLMatcher.grammar_from_regex(pattern))

    @classmethod
    def lark(cls, text: str) -> "Grammar":
        """Texts that a context-free grammar in the notation of Lark yields from `start`.

        Raises:
            ConfigError: it is no such grammar.
        """
        return cls._checked(LLMatcher.grammar_from_lark(text))

    def constraint(self, tokenizer: Tokenizer) -> "GrammarState":
        """The constraint of one new text.

        Raises:
            ConfigError: the vocabulary cannot write any such text, or the grammar is too large.
        """
        return GrammarState(self, tokenizer)

    @classmethod
    def _checked(cls, source: str) -> "Grammar":
        refused, messages = LLMatcher.validate_grammar_with_warnings(source)
        if refused:
            raise _refusal(messages[0])
        return cls(source)


class GrammarState:
    """Which tokens may come next in one text.

    Those that end a text are allowed exactly where the grammar may stop; other special tokens only
    where it names them.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer) -> None:
        self._vocabulary = _vocabulary(tokenizer)
        self._grammar, self._accepted = grammar, list[int]()
        self._matcher = self._at_start()
        self._mask: Bool[Tensor, " vocab"] | None = None
        self.mask()

    def _at_start(self) -> LLMatcher:
        limits = LLParserLimits(verbose_errors=False)
        return LLMatcher(self._vocabulary.reader, self._grammar.source, log_level=0, limits=limits)

    def mask(self) -> Bool[Tensor, " vocab"]:
        """The tokens that may come next; there is always one.

        Raises:
            ConfigError: the vocabulary has no token with which the text could continue, or the
                grammar is too ambiguous here.
        """
        if self._mask is None:
            raw = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            bits = np.unpackbits(raw, count=self._vocabulary.size, bitorder="little")
            if self._matcher.is_error():
                raise _refusal(self._matcher.get_error())
            self._mask = torch.from_numpy(bits.view(np.bool_))
        return self._mask

    def accept(self, token: int) -> None:
        """Continue the text with a token that the mask allows."""
        accepted = self._matcher.consume_token(token)
        assert accepted, self._matcher.get_error()
        self._accepted.append(token)
        self._mask = None

    def rollback(self, num_tokens: int) -> None:
        """Take the last tokens back."""
        del self._accepted[len(self._accepted) - num_tokens :]
        if self._matcher.is_error():  # from which there is no way back
            self._matcher = self._at_start()
            went_back = self._matcher.consume_tokens(self._accepted)
        else:
            went_back = self._matcher.rollback(num_tokens)
        assert went_back, self._matcher.get_error()
        self._mask = None

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing but its end may come next."""
        return self._matcher.is_stopped()


class _Vocabulary:
    """A tokenizer's tokens as llguidance reads them."""

    bos_token_id = None  # it asks for one

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer: Tokenizer = proxy(tokenizer)  # which holds this one, in the table below
        self.size = tokenizer.vocab_size
        special = tokenizer.special_ids
        self.tokens = [
            tokenizer.name_of(id).encode() if id in special else tokenizer.bytes_of(id)
            for id in range(self.size)
        ]
        self.special_token_ids = sorted(special)
        self.eos_token_id = tokenizer.end_of_text

    @cached_property
    def reader(self) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(self), eos_token=self._tokenizer.stop_ids)

    def __call__(self, text: str | bytes) -> list[int]:
        """The tokens of a text in the middle of another one."""
        if isinstance(text, bytes):
            raise TypeError("a text is expected")  # llguidance then gives texts
        tokenizer = self._tokenizer
        if tokenizer.kind == "characters":
            return tokenizer.encode("".join(takewhile(tokenizer.knows, text)))
        # Before the first word of a text, sentencepiece writes a space of its own.
        before = "" if tokenizer.kind == "bytes" else "\x02"
        return tokenizer.encode_within([(before, text, "")])[0]


_VOCABULARIES: WeakKeyDictionary[Tokenizer, _Vocabulary] = WeakKeyDictionary()


def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
    """Made once for each tokenizer: it takes up to a second."""
    if tokenizer.kind == "other":
        raise ConfigError(
            "a grammar needs a tokenizer whose tokens stand for bytes; the text of this one's "
            "depends on their neighbours."
        )
    if tokenizer not in _VOCABULARIES:
        _VOCABULARIES[tokenizer] = _Vocabulary(tokenizer)
    return _VOCABULARIES[tokenizer]


def _refusal(message: str) -> ConfigError:
    if message.startswith("NoExtension"):
        why = (
            "no token may come next: it asks for the impossible, or for characters that the "
            "vocabulary lacks."
        )
    else:
        lines = (line.strip() for line in message.splitlines())
        why = " ".join(line for line in lines if line.strip("^"))
    return ConfigError(f"this grammar cannot be followed: {why}")
