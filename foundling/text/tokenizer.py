"""Text to token ids and back: byte-level BPE, characters, or any existing tokenizer.json."""

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError, suggest
from foundling.text.controls import Controls
from foundling.text.own_templates import (
    BEGIN_OF_TEXT,
    END_OF_TEXT,
    FOUNDLING,
    OWN,
    PAD,
    ROLE_TOKENS,
    SPECIAL_TOKENS,
)
from foundling.text.spelling import BYTE, Kind, kind_of, spell_bytes, spell_piece
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.template import TODAY, ChatTemplate
from foundling.text.tokenizer_files import (
    SETTINGS,
    TOKENIZER,
    TokenizerFiles,
    add_tokens,
    as_json,
    token_name,
)

# The names that well-known tokenizers give these roles, asked for in this order where
# tokenizer_config.json is silent.
_BEGINS = (BEGIN_OF_TEXT, "<s>", "<bos>")
_ENDS = (END_OF_TEXT, "<|endoftext|>", "</s>", "<eos>")
_PADS = (PAD, "<pad>", "[PAD]")

# Source: Qwen2's tokenizer.json. GPT-4's pattern with one digit a token, which suits the small
# vocabularies that are trained here.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MARKUP = re.compile(r"[^\s▁]{3,}")


class Tokenizer:
    """A vocabulary with its special tokens; `kind` says how a token stands for bytes."""

    def __init__(
        self,
        backend: Backend,
        begin: str | None,
        end: str,
        pad: str | None,
        *,
        files: TokenizerFiles | None = None,
        template: ChatTemplate | None = None,
    ) -> None:
        """`files`: what it was read from; `template`: another one than theirs."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # a text that spells a special token stays text
        self._backend = backend
        self._json: dict[str, Any] = json.loads(backend.to_str())
        self.begin_name, self.end_name, self.pad_name = begin, end, pad
        self.kind: Kind = kind_of(self._json)
        self._files, self._given_template = files, template

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
        files = TokenizerFiles.beside(file)
        try:
            backend = Backend.from_buffer(files.contents[TOKENIZER])
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(f"{file}: not a tokenizer.json: {error}") from None
        present = set(backend.get_vocab(with_added_tokens=True))

        def role(key: str, usual: Sequence[str]) -> str | None:
            named = token_name(files.settings.get(key))
            if named in present or (named is None and key in files.settings and usual != _ENDS):
                return named
            return next((name for name in usual if name in present), None)

        begin, end, pad = role("bos_token", _BEGINS), role("eos_token", _ENDS), None
        if end is None:
            raise ConfigError(
                f"{file}: no token ends a text ({', '.join(_ENDS)}); "
                f'name it as "eos_token" in {file.with_name(SETTINGS)}.'
            )
        pad = role("pad_token", _PADS)
        return cls(backend, begin, end, None if pad == end else pad, files=files)

    def save(self, folder: Path | str) -> None:
        """Write the files of a tokenizer, as transformers reads them too.

        Those that it was read from are written as they were, but for what has changed since:
        tokens that were added, the chat template, and the ids that end what a model writes.
        """
        folder = Path(folder)
        files = self._files or self._own_files()
        named = {} if SETTINGS in files.contents else {SETTINGS: self._own_settings()}
        changed: dict[str, bytes] = dict(named)
        known = {token["content"] for token in files.added_tokens}
        added = [token for token in self._json["added_tokens"] if token["content"] not in known]
        if added:
            changed |= files.with_tokens(added)
        template = self.template
        if template is not None and template.saved != files.templates.get("default"):
            settings = changed.get(SETTINGS, files.contents.get(SETTINGS, b"{}"))
            changed |= files.with_template(template.saved, settings)
        changed |= files.with_ends(self.stop_ids)
        files.write(folder, changed)

    def _own_files(self) -> TokenizerFiles:
        text = self._backend.to_str(pretty=True) + "\n"
        contents = {TOKENIZER: text.encode(), SETTINGS: self._own_settings()}
        return TokenizerFiles(Path(TOKENIZER), contents)

    def _own_settings(self) -> bytes:
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": bool(self.begin_ids),
            "bos_token": self.begin_name,
            "eos_token": self.end_name,
            "pad_token": self.pad_name,
            "clean_up_tokenization_spaces": False,
        }
        return as_json({key: value for key, value in settings.items() if value is not None})

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
                self.refuse_unknown(text)
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_spelled(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode_batch`, where the special tokens that a text spells are these tokens."""
        if self.kind == "characters":
            for text in texts:
                self.refuse_unknown(self._spellings.sub("", text))
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
            self.refuse_unknown(text)
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
        """Whether it has a chat template, and so can write a conversation."""
        return self.template is not None

    @cached_property
    def template(self) -> ChatTemplate | None:
        """How conversations are written: what was chosen, the folder's own, or Foundling's.

        None where the folder has no template and the vocabulary no tokens for Foundling's.
        """
        own = self._given_template
        if own is None and self._files is not None:
            own = self._files.template()
        if own is not None and own.source != FOUNDLING:
            return own
        has_roles = all(self.find(name) is not None for name in ROLE_TOKENS)
        return ChatTemplate("foundling", FOUNDLING) if has_roles else None

    def with_template(self, name: str, **options: Any) -> "Tokenizer":
        """The same with another chat template; tokens that it needs get the next ids.

        Args:
            name: "default" (the folder's own) or another of the folder's; "chatml", "foundling",
                a file, or jinja source.
            options: values of variables that the template reads, such as enable_thinking; `today`,
                as YYYY-MM-DD, fixes the date that it writes.

        Raises:
            ConfigError: there is no such template, or it reads no such variable.
        """
        template, tokens = self._template_of(name, options)
        backend = add_tokens(self._backend, tokens)
        marks = (self.begin_name, self.end_name, self.pad_name)
        return Tokenizer(backend, *marks, files=self._files, template=template)

    def speaking(self, name: str | None) -> "Tokenizer":
        """`with_template` for a model as it is, which knows no new tokens; None: as it is.

        Raises:
            ConfigError: there is no such template, or it needs tokens that the vocabulary lacks.
        """
        if name is None:
            return self
        new = self.with_template(name)
        missing = [new.name_of(id) for id in range(self.vocab_size, new.vocab_size)]
        if missing:
            raise ConfigError(
                f'template = "{name}": needs {", ".join(missing)}, which the model does not know; '
                "tune it with this template first (data.template), or choose another."
            )
        return new

    def dated(self) -> "Tokenizer":
        """The same, where the chat template writes a date, with today's for good."""
        template = self.template
        if template is None or not template.writes_date:
            return self
        options = {**template.options, TODAY: date.today().isoformat()}
        fixed = replace(template, options=options)
        marks = (self.begin_name, self.end_name, self.pad_name)
        return Tokenizer(self._backend, *marks, files=self._files, template=fixed)

    def _template_of(
        self, name: str, options: dict[str, Any]
    ) -> tuple[ChatTemplate, tuple[str, ...]]:
        found = self._files.template(name, **options) if self._files else None
        if found is None and name == "default" and self.template is not None:
            found = replace(self.template, options=options)
        if found is not None:
            return found, ()
        if name in OWN:
            source, tokens = OWN[name]
            return ChatTemplate(name, source, options), tokens
        if "{" in name:
            return ChatTemplate("given", name, options), ()
        try:
            return ChatTemplate(Path(name).stem, Path(name).read_text("utf-8"), options), ()
        except (OSError, UnicodeDecodeError):
            names = [*(self._files.templates if self._files else ()), *OWN]
            raise ConfigError(
                f'template = "{name}": no such chat template or file {suggest(name, names)}'
            ) from None

    def with_roles(self) -> "Tokenizer":
        """The same with Foundling's own chat template and all tokens that it needs."""
        return self.with_template("foundling")

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """The names of special tokens by what templates call them, such as bos_token."""
        marks = {"bos_token": self.begin_name, "eos_token": self.end_name}
        pad = {} if self.pad_name is None else {"pad_token": self.pad_name}
        found = {**pad, **(self._files.special_tokens if self._files else {}), **marks}
        return {key: name for key, name in found.items() if name is not None}

    @cached_property
    def controls(self) -> Controls:
        """The tokens that only a chat template may write, and how its texts are encoded."""
        names = {self.name_of(id): id for id in self.special_ids}
        for name in (*self.special_tokens.values(), *self._turn_tokens()):
            if (id := self.find(name)) is not None:
                names[name] = id
        return Controls(self._json, names)

    def _probe(self, *contents: str) -> str:
        """An exchange of these contents as the template writes it; empty where it cannot."""
        pairs = zip(("user", "assistant", "user"), contents, strict=False)
        turns = [{"role": role, "content": content} for role, content in pairs]
        if self.template is None:
            return ""
        try:
            return self.template.render(turns, special_tokens=self.special_tokens)
        except ConfigError:
            return ""

    def _turn_tokens(self) -> list[str]:
        """Added tokens around turns, also where nothing says that they are special.

        Tags that are opened and closed, such as those of a thought, are none of them.
        """
        text = self._probe("question", "answer", "question")
        names = [token["content"] for token in self._json["added_tokens"]]
        found = {name for name in names if _MARKUP.fullmatch(name) and name in text}
        closed = {name for name in found if name.replace("</", "<", 1) in found and "</" in name}
        return sorted(found - closed - {name.replace("</", "<", 1) for name in closed})

    @cached_property
    def end_of_turn(self) -> int | None:
        """The token with which the template ends an answer, if it does."""
        end = self._probe("question", "answer").rpartition("answer")[2]
        found = list(self.controls.found(end))
        return self.special(end[slice(*found[-1])]) if found else None

    @cached_property
    def begin_ids(self) -> list[int]:
        """What the tokenizer itself puts before a text: its begin mark, or nothing."""
        begin = None if self.begin_name is None else self.begin_of_text
        if self._files is not None:
            return self._files.begin(begin)
        return [] if begin is None else [begin]

    @cached_property
    def stop_ids(self) -> list[int]:
        """The ids that end what a model writes.

        They are the end of a text, what the chat template ends an answer with, and those that the
        folder's config.json and generation_config.json name.
        """
        ends = self._files.ends if self._files else ()
        found = (self.end_of_text, self.end_of_turn, *ends)
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

    def refuse_unknown(self, text: str) -> None:
        """Raises ConfigError: the vocabulary of characters lacks one of the text's."""
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


def _word_splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
