"""The vocabularies that Foundling makes: byte-level BPE, and characters."""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.text.own_templates import SPECIAL_TOKENS

# Source: Qwen2's tokenizer.json. GPT-4's pattern with one digit a token, which suits the small
# vocabularies that are trained here.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_byte_level(texts: Iterable[str], vocab_size: int) -> Backend:
    """A byte-level BPE; a small corpus may yield fewer than `vocab_size` tokens.

    Raises:
        ConfigError: `vocab_size` does not hold the 256 bytes and the special tokens.
    """
    check_vocab_size(vocab_size)
    backend = Backend(models.BPE())
    backend.pre_tokenizer = _word_splitter()
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_special_tokens(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def collect_characters(texts: Iterable[str]) -> Backend:
    """One token for each Unicode character that `texts` hold."""
    seen: set[str] = set()
    for text in texts:
        seen.update(text)
    names = [*SPECIAL_TOKENS, *sorted(seen)]
    # BPE without merges: six times as fast as WordLevel behind a Split by character.
    backend = Backend(models.BPE(vocab={n: i for i, n in enumerate(names)}, merges=[]))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(_special_tokens())
    return backend


def check_vocab_size(size: int) -> None:
    """Raises ConfigError: byte-level BPE of this size cannot hold its bytes and special tokens."""
    least = 256 + len(SPECIAL_TOKENS)
    if size < least:
        raise ConfigError(
            f"--vocab-size {size}: byte-level BPE needs at least {least} (256 bytes and "
            f"{len(SPECIAL_TOKENS)} special tokens)."
        )


def beginning(name: str, id: int) -> dict[str, Any]:
    """The post-processor of tokenizer.json that puts this token before every text."""
    return _settings(
        processors.TemplateProcessing(
            single=[name, "$A"], pair=[name, "$A", f"{name}:1", "$B:1"], special_tokens=[(name, id)]
        )
    )


def _special_tokens() -> list[AddedToken]:
    return [AddedToken(name, special=True) for name in SPECIAL_TOKENS]


def _word_splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _settings(step: pre_tokenizers.PreTokenizer | processors.PostProcessor) -> dict[str, Any]:
    """A step of a tokenizer as tokenizer.json spells it."""
    values: dict[str, Any] = json.loads(step.__getstate__())
    return values
