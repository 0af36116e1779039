"""Tokenizers: a vocabulary, the marks of a text, and a chat template, read and written."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.text.controls import Controls
from foundling.text.own_templates import BEGIN_OF_TEXT, END_OF_TEXT, PAD, SPECIAL_TOKENS
from foundling.text.own_vocabularies import (
    beginning,
    collect_characters,
    train_byte_level,
)
from foundling.text.template import TODAY, ChatTemplate
from foundling.text.template_choice import choose_template, default_template, turn_tokens
from foundling.text.tokenizer_files import (
    SETTINGS,
    TOKENIZER,
    TokenizerFiles,
    add_tokens,
    settings_of,
)
from foundling.text.vocabulary import Vocabulary


class Tokenizer(Vocabulary):
    """A vocabulary with the marks of a text and a chat template, as a model folder holds them."""

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
        super().__init__(backend)
        self.begin_name, self.end_name, self.pad_name = begin, end, pad
        self._files, self._given_template = files, template

    # ------------------------------------------------------------------ making one

    @classmethod
    def train_bytes(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Train a byte-level BPE; a small corpus may yield fewer than `vocab_size` tokens.

        Raises:
            ConfigError: `vocab_size` does not hold the 256 bytes and the special tokens.
        """
        backend = train_byte_level(texts, vocab_size)
        return cls(backend, BEGIN_OF_TEXT, END_OF_TEXT, PAD)

    @classmethod
    def characters(cls, texts: Iterable[str]) -> "Tokenizer":
        """One token for each Unicode character that `texts` hold."""
        return cls(collect_characters(texts), BEGIN_OF_TEXT, END_OF_TEXT, PAD)

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
        begin, end, pad = files.marks(backend.get_vocab(with_added_tokens=True))
        return cls(backend, begin, end, pad, files=files)

    def save(self, folder: Path | str) -> None:
        """Write the files of a tokenizer, as transformers reads them too.

        Those that it was read from are written as they were, but for what has changed since:
        tokens that were added, the chat template, and the ids that end what a model writes.
        Foundling's own tokenizers say in tokenizer.json that texts begin with their mark.
        """
        files = self._files
        if files is None:
            text = self._backend.to_str(pretty=True) + "\n"
            files = TokenizerFiles(Path(TOKENIZER), {TOKENIZER: text.encode()})
        changed: dict[str, bytes | None] = {}
        if SETTINGS not in files.contents:
            marks = (self.begin_name, self.end_name, self.pad_name)
            changed[SETTINGS] = settings_of(*marks, begins=bool(self.begin_ids))
        known = {token["content"] for token in files.added_tokens}
        added = [token for token in self._json["added_tokens"] if token["content"] not in known]
        if added:
            changed |= files.with_tokens(added)
        if self.begin_ids and self._beginning and files.post_processor is None:
            changed |= files.with_post_processor(self._beginning, changed.get(TOKENIZER))
        template = self.template
        if template is not None:
            changed |= files.with_templates(template.saved, changed.get(SETTINGS))
        changed |= files.with_ends(self.stop_ids)
        files.write(Path(folder), changed)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of tokenizer.json in a canonical spelling.

        What it says of Foundling's own begin mark is left out: once it said nothing.
        """
        settings = self._json
        if settings["post_processor"] == self._beginning:
            settings = {**settings, "post_processor": None}
        text = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _beginning(self) -> dict[str, Any] | None:
        """How tokenizer.json says that texts begin with Foundling's own mark."""
        ours = self.begin_name == BEGIN_OF_TEXT
        return beginning(BEGIN_OF_TEXT, self.begin_of_text) if ours else None

    # ------------------------------------------------------------------ marks of a text

    @property
    def begin_of_text(self) -> int:
        return self._role(self.begin_name, "begins a text")

    @property
    def end_of_text(self) -> int:
        return self._role(self.end_name, "ends a text")

    @property
    def pad(self) -> int:
        return self._role(self.pad_name, "is padding and nothing else")

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

    # ------------------------------------------------------------------ chat template

    @property
    def knows_roles(self) -> bool:
        """Whether it has a chat template, and so can write a conversation."""
        return self.template is not None

    @cached_property
    def template(self) -> ChatTemplate | None:
        """How conversations are written: what was chosen, the folder's own, or Foundling's.

        None where the folder has no template and the vocabulary no tokens for Foundling's.
        """
        return default_template(
            self._given_template, self._files, lambda name: self.find(name) is not None
        )

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
        template, tokens = choose_template(name, options, self._files, self.template)
        if all(self.find(name) is not None for name in tokens):
            return self._with(template)
        backend = add_tokens(self._backend, tokens)
        marks = (self.begin_name, self.end_name, self.pad_name)
        return Tokenizer(backend, *marks, files=self._files, template=template)

    def with_known_template(self, name: str | None) -> "Tokenizer":
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

    def with_template_options(self, options: Mapping[str, Any]) -> "Tokenizer":
        """The same, with values of variables that its chat template reads.

        Raises:
            ConfigError: there is no chat template, or it reads no such variable.
        """
        template = self.template
        if template is None:
            raise ConfigError("there is no chat template, which could read options.")
        return self._with(replace(template, options={**template.options, **options}))

    def dated(self) -> "Tokenizer":
        """The same, where the chat template writes a date, with today's for good."""
        template = self.template
        if template is None or not template.writes_date:
            return self
        options = {**template.options, TODAY: date.today().isoformat()}
        return self._with(replace(template, options=options))

    def _with(self, template: ChatTemplate) -> "Tokenizer":
        """The same vocabulary, which need not be read anew, with another chat template."""
        new = copy(self)
        new._given_template = template
        for name in ("template", "controls", "end_of_turn", "stop_ids"):
            new.__dict__.pop(name, None)
        return new

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
        return Controls(self._backend, self._json, names)

    def _probe(self, *contents: str, system: str = "") -> str:
        """An exchange of these contents as the template writes it; empty where it cannot."""
        pairs = [*zip(("user", "assistant", "user"), contents, strict=False)]
        if system:
            pairs.insert(0, ("system", system))
        turns = [{"role": role, "content": content} for role, content in pairs]
        if self.template is None:
            return ""
        try:
            return self.template.render(turns, special_tokens=self.special_tokens)
        except ConfigError:
            return ""

    def _turn_tokens(self) -> list[str]:
        """Added tokens around turns, also where nothing says that they are special."""
        text = self._probe("A question?", "An answer.", "A question?")
        return turn_tokens(text, [token["content"] for token in self._json["added_tokens"]])

    @property
    def is_own(self) -> bool:
        """Whether it is one that Foundling trained, with the tokens of its own template."""
        return all(self.find(name) == id for id, name in enumerate(SPECIAL_TOKENS))

    def brings(self, template: ChatTemplate) -> bool:
        """Whether it comes with this chat template, whatever its options."""
        known = set(self._files.templates.values()) if self._files else set()
        if self.template is not None:
            known.add(self.template.source)
        return template.source in known

    @cached_property
    def template_ids(self) -> list[int]:
        """The special tokens that the chat template writes, but for the mark that begins a text."""
        if self.template is None:
            return []
        exchange = ("question", "answer", "question")
        written = (self._probe(*exchange), self._probe(*exchange, system="system"))
        text = "\n".join((self.template.source, self.template.with_tools or "", *written))
        found = {text[slice(*place)] for place in self.controls.found(text)} - {self.begin_name}
        return sorted(map(self.special, found))

    @cached_property
    def end_of_turn(self) -> int | None:
        """The token with which the template ends an answer, if it does."""
        end = self._probe("A question?", "An answer.").rpartition("An answer.")[2]
        found = next(self.controls.found(end), None)
        return self.special(end[slice(*found)]) if found else None
