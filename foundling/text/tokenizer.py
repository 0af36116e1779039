"""Text to token ids and back: byte-level BPE, characters, or any existing tokenizer.json."""

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.text.spelling import BYTE, Kind, kind_of, spell_bytes, spell_piece
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.template import ChatTemplate

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
PAD = "<|pad|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END_OF_TURN = "<|end_of_turn|>"
ROLE_TOKENS = (SYSTEM, USER, ASSISTANT, END_OF_TURN)
SPECIAL_TOKENS = (BEGIN_OF_TEXT, END_OF_TEXT, PAD, SYSTEM, USER, ASSISTANT, END_OF_TURN)

# The jinja twin of `foundling.text.chat.render`; its generation blocks hold what is learned. It
# makes one string of all, so a content that spells a special token becomes that token there.
CHAT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    f"{ASSISTANT}{{% generation %}}{{{{ message['content'] }}}}{END_OF_TURN}{{% endgeneration %}}"
    "{% elif message['role'] == 'user' %}"
    f"{USER}{{{{ message['content'] }}}}{END_OF_TURN}"
    "{% elif message['role'] == 'system' and loop.first %}"
    f"{SYSTEM}{{{{ message['content'] }}}}{END_OF_TURN}"
    "{% else %}{{ raise_exception('a message of role ' ~ message['role'] ~ ' here') }}{% endif %}"
    f"{{% endfor %}}{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
)

# The names that well-known tokenizers give these roles, asked for in this order where
# tokenizer_config.json is silent.
_BEGIN_NAMES = (BEGIN_OF_TEXT, "<s>", "<bos>")
_END_NAMES = (END_OF_TEXT, "<|endoftext|>", "</s>", "<eos>")
_PAD_NAMES = (PAD, "<pad>", "[PAD]")

# Source: Qwen2's tokenizer.json. GPT-4's pattern with one digit a token, which suits the small
# vocabularies that are trained here.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """A vocabulary with its special tokens; `kind` says how a token stands for bytes."""

    def __init__(
        self,
        backend: Backend,
        begin: str | None,
        end: str,
        pad: str | None,
        *,
        begins: bool = True,
        ends: Sequence[int] = (),
    ) -> None:
        """`begins`: a text begins with its mark; `ends`: further ids that end what is written."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # a text that spells a special token stays text
        self._backend = backend
        self._json: dict[str, Any] = json.loads(backend.to_str())
        self.begin_name, self.end_name, self.pad_name = begin, end, pad
        self._begins, self._ends = begins, tuple(ends)
        self.kind: Kind = kind_of(self._json)

    # ------------------------------------------------------------------ making one

    @classmethod
    def train_bytes(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Train a byte-level BPE; a small corpus may yield fewer than `vocab_size` tokens.

        Raises:
            ConfigError: `vocab_size` does not hold the 256 bytes and the special tokens.
        """
        check_vocab_size(vocab_size)
        backend = Backend(models.BPE())
        backend.pre_tokenizer = _word_splitter()
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[AddedToken(name, special=True) for name in SPECIAL_TOKENS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend, BEGIN_OF_TEXT, END_OF_TEXT, PAD)

    @classmethod
    def characters(cls, texts: Iterable[str]) -> "Tokenizer":
        """One token for each Unicode character that `texts` hold."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        names = [*SPECIAL_TOKENS, *sorted(seen)]
        # BPE without merges: six times as fast as WordLevel behind a Split by character.
        backend = Backend(models.BPE(vocab={n: i for i, n in enumerate(names)}, merges=[]))
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
        return cls(backend, BEGIN_OF_TEXT, END_OF_TEXT, PAD)

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Open a tokenizer.json, the folder that holds one, or a token store.

        Raises:
            ConfigError: there is none, it is broken, or no token ends a text.
        """
        path = Path(path)
        folder = path / "tokenizer" if (path / "tokenizer").is_dir() else path
        file = folder / "tokenizer.json" if folder.is_dir() else folder
        if not file.is_file():
            raise ConfigError(
                f"{path}: no such tokenizer; give a tokenizer.json, its folder or a token store."
            )
        try:
            backend = Backend.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(f"{file}: not a tokenizer.json: {error}") from None
        settings = _settings(file.with_name("tokenizer_config.json"))
        present = set(backend.get_vocab(with_added_tokens=True))

        def role(key: str, usual: Sequence[str]) -> str | None:
            given = settings.get(key)
            named = given.get("content") if isinstance(given, Mapping) else given
            if named in present or (key in settings and named is None and key != "eos_token"):
                return named
            return next((name for name in usual if name in present), None)

        begin = role("bos_token", _BEGIN_NAMES)
        end = role("eos_token", _END_NAMES)
        pad = role("pad_token", _PAD_NAMES)
        if end is None:
            raise ConfigError(
                f"{file}: no token ends a text ({', '.join(_END_NAMES)}); "
                f'name it as "eos_token" in {file.with_name("tokenizer_config.json")}.'
            )
        return cls(
            backend,
            begin,
            end,
            None if pad == end else pad,
            begins=_begins(backend, settings, begin),
            ends=_ends(file.parent),
        )

    def save(self, folder: Path | str) -> None:
        """Write tokenizer.json and tokenizer_config.json, as transformers reads them too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": bool(self.begin_ids),
            "bos_token": self.begin_name,
            "eos_token": self.end_name,
            "pad_token": self.pad_name,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE if self.knows_roles else None,
        }
        named = {key: value for key, value in settings.items() if value is not None}
        text = self._backend.to_str(pretty=True)
        (folder / "tokenizer.json").write_text(text + "\n", "utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(named, indent=2) + "\n", "utf-8")

    # ------------------------------------------------------------------ using it

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, with nothing added before or after.

        Raises:
            ConfigError: the vocabulary of characters lacks one of the text's.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        if self.kind == "characters":
            for text in texts:
                self._refuse_unknown(text)
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_spelled(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode_batch`, where the special tokens that a text spells are these tokens."""
        if self.kind == "characters":
            for text in texts:
                self._refuse_unknown(self._spellings.sub("", text))
        encodings = self._parsing.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def spelled(self, text: str) -> list[str]:
        """The special tokens that a text spells."""
        return self._spellings.findall(text)

    @cached_property
    def _spellings(self) -> re.Pattern[str]:
        names = sorted(map(self.name_of, self.special_ids), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or "(?!)")

    @cached_property
    def _parsing(self) -> Backend:
        """The same, but that special tokens are read in a text."""
        backend = Backend.from_str(self._backend.to_str())
        backend.encode_special_tokens = False
        return backend

    def encode_within(self, windows: Sequence[tuple[str, str, str]]) -> list[list[int]]:
        """The tokens that begin in each text, where it stands between a text before and one after.

        Raises:
            ConfigError: the vocabulary of characters lacks one of a text's.
        """
        if self.kind == "characters" or not any(b or a for b, _, a in windows):
            return self.encode_batch([text for _, text, _ in windows])
        encodings = self._backend.encode_batch(
            list(map("".join, windows)), add_special_tokens=False
        )
        found = []
        for (before, text, _), encoding in zip(windows, encodings, strict=True):
            offsets = encoding.offsets
            low = bisect_left(offsets, (len(before),))
            high = bisect_left(offsets, (len(before) + len(text),))
            found.append(encoding.ids[low:high])
        return found

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of `text`, and from which to before which of its characters each one goes.

        Tokens that share a character, such as the bytes of an emoji, all have it whole.

        Raises:
            ConfigError: the vocabulary of characters lacks one of the text's.
        """
        if self.kind == "characters":
            self._refuse_unknown(text)
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def knows(self, text: str) -> bool:
        """Whether `encode` takes the text: a vocabulary of characters may lack some of its."""
        return self.kind != "characters" or self._characters.issuperset(text)

    def decode(
        self, ids: Iterable[int], *, show_special: bool = False, continues: bool = False
    ) -> str:
        """The text of `ids`; special tokens are left out unless `show_special`.

        Args:
            continues: other text precedes it, so that sentencepiece drops no space.
        """
        ids = [int(i) for i in ids]
        if self.kind == "other":
            text: str = self._backend.decode(ids, skip_special_tokens=not show_special)
            return text
        decoder = StreamDecoder(self, show_special=show_special, continues=continues)
        return "".join([decoder.push(i) for i in ids]) + decoder.flush()

    def bytes_of(self, id: int) -> bytes:
        """The bytes that one token stands for, in the middle of a text; none for a special one."""
        if not 0 <= id < self.vocab_size:
            raise ValueError(f"token {id}: the vocabulary ends at {self.vocab_size - 1}.")
        return self._bytes[id]

    @cached_property
    def splits_at_words(self) -> bool:
        """Whether a text that is cut where a word or a line begins keeps its tokens."""
        settings = self._json
        return (
            settings["pre_tokenizer"] == json.loads(_word_splitter().__getstate__())
            and settings["normalizer"] is None
            and all(token["special"] for token in settings["added_tokens"])
        )

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """How many bytes each id stands for."""
        return np.array([len(raw) for raw in self._bytes], dtype=np.int64)

    def is_lossless(self, text: str) -> bool:
        """Whether `text` comes back from its tokens unchanged."""
        return self.decode(self.encode(text)) == text

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id, added tokens included."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values())

    @property
    def begin_of_text(self) -> int:
        return self._role(self.begin_name, "begins a text")

    @property
    def end_of_text(self) -> int:
        return self._role(self.end_name, "ends a text")

    @property
    def pad(self) -> int:
        return self._role(self.pad_name, "is padding and nothing else")

    def find(self, name: str) -> int | None:
        """The id of the token called `name`, if there is one."""
        id: int | None = self._backend.token_to_id(name)
        return id

    def special(self, name: str) -> int:
        """The id of a special token, such as "<|user|>".

        Raises:
            ConfigError: this tokenizer has no such token.
        """
        return self._role(name, f'is called "{name}"')

    @property
    def knows_roles(self) -> bool:
        """Whether it has the tokens that a conversation is made of."""
        return all(self.find(name) is not None for name in ROLE_TOKENS)

    def with_roles(self) -> "Tokenizer":
        """The same with all tokens that a conversation is made of; new ones get the next ids."""
        backend = Backend.from_str(self._backend.to_str())
        missing = [name for name in ROLE_TOKENS if self.find(name) is None]
        backend.add_special_tokens([AddedToken(name, special=True) for name in missing])
        return Tokenizer(
            backend,
            self.begin_name,
            self.end_name,
            self.pad_name,
            begins=self._begins,
            ends=self._ends,
        )

    @cached_property
    def template(self) -> ChatTemplate | None:
        """How conversations are written; None where nothing says."""
        return ChatTemplate("foundling", CHAT_TEMPLATE) if self.knows_roles else None

    def with_template(self, name: str, **options: Any) -> "Tokenizer":
        """The same with another chat template; tokens that it needs get the next ids.

        Args:
            name: one of the folder's own, "chatml", "foundling", a file, or jinja source.
            options: values of variables that the template reads, such as enable_thinking.

        Raises:
            ConfigError: there is no such template.
        """
        if name != "foundling" or options:
            raise ConfigError(f'template = "{name}": no such template (foundling).')
        return self.with_roles()

    @cached_property
    def begin_ids(self) -> list[int]:
        """What the tokenizer itself puts before a text: its begin mark, or nothing."""
        return [self.begin_of_text] if self._begins and self.begin_name is not None else []

    @cached_property
    def stop_ids(self) -> list[int]:
        """The ids that end what a model writes: end of text, end of turn, and those of a folder.

        A folder names them in its tokenizer_config.json, config.json or generation_config.json.
        """
        found = (self.end_of_text, self.find(END_OF_TURN), *self._ends)
        return list(dict.fromkeys(id for id in found if id is not None))

    def mark_ids(self) -> dict[str, int]:
        """The marks of a text as config.json of `transformers` names them."""
        marks = {
            "bos_token_id": self.begin_name,
            "eos_token_id": self.end_name,
            "pad_token_id": self.pad_name,
        }
        return {key: self.special(name) for key, name in marks.items() if name is not None}

    @cached_property
    def special_ids(self) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder()
        return frozenset(id for id, token in added.items() if token.special)

    def name_of(self, id: int) -> str:
        """How the vocabulary spells a token; empty where it has a hole."""
        return self._backend.id_to_token(id) or ""

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of tokenizer.json in a canonical spelling."""
        text = json.dumps(self._json, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    # ------------------------------------------------------------------ inside

    def _role(self, name: str | None, what: str) -> int:
        id = None if name is None else self.find(name)
        if id is None:
            raise ConfigError(f"This tokenizer has no token that {what}.")
        return id

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset(name for name in self._backend.get_vocab() if len(name) == 1)

    def _refuse_unknown(self, text: str) -> None:
        unknown = set(text) - self._characters
        if unknown:
            first = min(unknown, key=text.index)
            raise ConfigError(
                f"{first!r} (U+{ord(first):04X}): not among the {len(self._characters)} characters "
                f"of this tokenizer; it stands at character {text.index(first)} of the text."
            )

    @cached_property
    def _bytes(self) -> tuple[bytes, ...]:
        spell = {"bytes": spell_bytes, "sentencepiece": spell_piece}.get(self.kind, str.encode)
        if self.kind == "other":
            spell = self._spell_other
        special = self.special_ids
        return tuple(
            b"" if id in special else spell(self.name_of(id)) for id in range(self.vocab_size)
        )

    def _spell_other(self, token: str) -> bytes:
        # A decoder that looks at neighbours (WordPiece): the token's text after some other one.
        if self._backend.decoder is None:
            return token.encode()
        both: str = self._backend.decoder.decode(["a", token])
        return both.removeprefix("a").encode()

    def first_bytes(self, id: int) -> bytes:
        """`bytes_of` at the start of a text, where sentencepiece drops the space it had added."""
        token = self.name_of(id)
        if self.kind != "sentencepiece" or BYTE.fullmatch(token) or id in self.special_ids:
            return self.bytes_of(id)
        first: str = self._backend.decoder.decode([token])
        return first.encode()


def check_vocab_size(size: int) -> None:
    """Raises ConfigError: byte-level BPE of this size cannot hold its bytes and special tokens."""
    least = 256 + len(SPECIAL_TOKENS)
    if size < least:
        raise ConfigError(
            f"--vocab-size {size}: byte-level BPE needs at least {least} (256 bytes and "
            f"{len(SPECIAL_TOKENS)} special tokens)."
        )


def _begins(backend: Backend, settings: Mapping[str, Any], begin: str | None) -> bool:
    """Whether the tokenizer puts `begin` before a text.

    tokenizer_config.json says so, or what tokenizer.json does to a text; Foundling's own did
    before they said it.
    """
    if isinstance(said := settings.get("add_bos_token"), bool):
        return said
    if backend.post_processor is None:
        return begin == BEGIN_OF_TEXT
    return begin is not None and backend.token_to_id(begin) in backend.encode("").ids


def _ends(folder: Path) -> list[int]:
    """The end ids of a model folder's config.json and generation_config.json."""
    found: list[int] = []
    for name in ("config.json", "generation_config.json"):
        ids = _settings(folder / name).get("eos_token_id")
        found += ids if isinstance(ids, list) else [] if ids is None else [ids]
    return found


def _word_splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _settings(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        settings = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{file}: not a JSON object.")
    return settings
