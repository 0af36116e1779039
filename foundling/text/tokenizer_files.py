"""The files that a tokenizer comes with in a model folder: read once, and written as they were."""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.text.own_templates import BEGIN_OF_TEXT, END_OF_TEXT, PAD
from foundling.text.template import TOOL_USE, ChatTemplate

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
GENERATION = "generation_config.json"
TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
CARRIED = (
    TOKENIZER,
    SETTINGS,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    GENERATION,
    TEMPLATE,
    f"{TEMPLATES}/*.jinja",
)
"""What a model folder holds beside the model, for those that encode and decode."""

# The names that well-known tokenizers give these roles, asked for in this order where
# tokenizer_config.json is silent.
_BEGINS = (BEGIN_OF_TEXT, "<s>", "<bos>")
_ENDS = (END_OF_TEXT, "<|endoftext|>", "</s>", "<eos>")
_PADS = (PAD, "<pad>", "[PAD]")


@dataclass(frozen=True)
class TokenizerFiles:
    """The contents of a tokenizer's files, by their names in its folder."""

    source: Path
    """The tokenizer.json that they stand beside."""
    contents: Mapping[str, bytes]
    config_ends: tuple[int, ...] = ()
    """The end ids of config.json."""

    @classmethod
    def beside(cls, file: Path) -> "TokenizerFiles":
        """Of the folder in which a tokenizer.json lies, whatever it is called.

        Raises:
            ConfigError: one is not valid JSON.
        """
        folder = file.parent
        paths = [path for pattern in CARRIED[1:] for path in sorted(folder.glob(pattern))]
        contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        contents[TOKENIZER] = file.read_bytes()
        config = folder / "config.json"
        ends = _ends(_object(config, config.read_bytes())) if config.is_file() else ()
        return cls(file, contents, ends)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """tokenizer_config.json, and what special_tokens_map.json names beside it."""
        return {**self._json("special_tokens_map.json"), **self._json(SETTINGS)}

    @property
    def added_tokens(self) -> list[dict[str, Any]]:
        """As tokenizer.json spells them."""
        return list(self._tokenizer["added_tokens"])

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The ids by which config.json and generation_config.json end what is written."""
        return tuple(dict.fromkeys((*self.config_ends, *_ends(self._json(GENERATION)))))

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """The names of special tokens by what templates call them, such as bos_token."""
        extra = self.settings.get("extra_special_tokens")
        given = {**self.settings, **(extra if isinstance(extra, dict) else {})}
        names = {key: token_name(value) for key, value in given.items() if key.endswith("_token")}
        return {key: name for key, name in names.items() if name is not None}

    @cached_property
    def templates(self) -> dict[str, str]:
        """The sources of the chat templates by their names; the first is called "default"."""
        folder = {
            Path(name).stem: content.decode()
            for name, content in self.contents.items()
            if name.startswith(f"{TEMPLATES}/")
        }
        if TEMPLATE in self.contents:
            folder = {"default": self.contents[TEMPLATE].decode(), **folder}
        given = self.settings.get("chat_template")
        if folder or given is None:
            return folder
        if isinstance(given, str):
            return {"default": given}
        if isinstance(given, Mapping):
            return dict(given)
        return {entry["name"]: entry["template"] for entry in given}

    def template(self, name: str = "default", **options: Any) -> ChatTemplate | None:
        """The chat template of this name, if there is one."""
        if name not in self.templates:
            return None
        with_tools = self.templates.get(TOOL_USE) if name == "default" else None
        return ChatTemplate(name, self.templates[name], options, with_tools)

    def marks(self, vocabulary: Container[str]) -> tuple[str | None, str, str | None]:
        """The names of the tokens that begin a text, that end it, and that pad.

        Raises:
            ConfigError: none ends it.
        """

        def role(key: str, usual: Sequence[str]) -> str | None:
            named = token_name(self.settings.get(key))
            said = key in self.settings and usual != _ENDS
            if (named is None and said) or (named is not None and named in vocabulary):
                return named
            return next((name for name in usual if name in vocabulary), None)

        begin, end, pad = (
            role("bos_token", _BEGINS),
            role("eos_token", _ENDS),
            role("pad_token", _PADS),
        )
        if end is None:
            raise ConfigError(
                f"{self.source}: no token ends a text ({', '.join(_ENDS)}); "
                f'name it as "eos_token" in {self.source.with_name(SETTINGS)}.'
            )
        return begin, end, None if pad == end else pad

    @property
    def post_processor(self) -> dict[str, Any] | None:
        """What tokenizer.json puts around a text."""
        return self._tokenizer.get("post_processor")

    def begin(self, begin: int | None) -> list[int]:
        """The ids that the tokenizer puts before a text, where its begin mark is `begin`.

        The post-processor of tokenizer.json decides where there is one, else
        tokenizer_config.json.
        Source: transformers 5.23, `TokenizersBackend`, which reads no more than the former.
        """
        processor = self.post_processor
        if processor is None:
            # Foundling's own did so before they said it.
            ours = {token["id"] for token in self.added_tokens if token["content"] == BEGIN_OF_TEXT}
            adds = self.settings.get("add_bos_token", begin in ours)
            return [begin] if adds and begin is not None else []
        steps = processor["processors"] if processor["type"] == "Sequence" else [processor]
        found: list[int] = []
        for step in steps:
            for piece in step["single"] if step["type"] == "TemplateProcessing" else ():
                if "Sequence" in piece:
                    break
                found += step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
        return found

    def write(self, folder: Path, changed: Mapping[str, bytes | None]) -> None:
        """Write all files, some with other contents, but for those that are None."""
        for name, content in {**self.contents, **changed}.items():
            if content is None:
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def with_tokens(self, added: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """The files that change where tokens are added, as tokenizer.json spells them."""
        tokenizer = {**self._tokenizer, "added_tokens": [*self.added_tokens, *added]}
        changed = {TOKENIZER: as_json(tokenizer)}
        settings = self._json(SETTINGS)
        if "added_tokens_decoder" in settings:
            new = {
                str(token["id"]): {key: value for key, value in token.items() if key != "id"}
                for token in added
            }
            settings["added_tokens_decoder"] |= new
            changed[SETTINGS] = as_json(settings)
        return changed

    def with_post_processor(
        self, processor: Mapping[str, Any], tokenizer: bytes | None
    ) -> dict[str, bytes]:
        """tokenizer.json, or what else it has become, with another post-processor."""
        content = self.contents[TOKENIZER] if tokenizer is None else tokenizer
        return {TOKENIZER: as_json({**_object(self.source, content), "post_processor": processor})}

    def with_templates(
        self, sources: Mapping[str, str], settings: bytes | None
    ) -> dict[str, bytes | None]:
        """The files that change with other chat templates; None: this file is no longer there.

        They stand where the first ones did. Those of other names stay, but not one for tools that
        the others come without.

        Args:
            sources: "default", and the one for tools where it is another.
            settings: what tokenizer_config.json has become, if another.
        """
        kept = {name: source for name, source in self.templates.items() if name != TOOL_USE}
        new = {**kept, **sources}
        if new == self.templates:
            return {}
        files = {name: _template_file(name) for name in {*self.templates, *new}}
        in_files = any(file in self.contents for file in files.values())
        changed: dict[str, bytes | None] = {}
        for name in files if in_files else ():
            if new.get(name) != self.templates.get(name):
                changed[files[name]] = new[name].encode() if name in new else None
        values = self._json(SETTINGS)
        if settings is not None:
            values = _object(self.source.with_name(SETTINGS), settings)
        if not in_files or "chat_template" in values:
            named = [{"name": name, "template": source} for name, source in new.items()]
            given = named if len(new) > 1 else new["default"]
            changed[SETTINGS] = as_json({**values, "chat_template": given})
        return changed

    def with_ends(self, ids: Sequence[int]) -> dict[str, bytes]:
        """generation_config.json, where it lacks one of the ids that end what is written."""
        generation = self._json(GENERATION)
        if set(_ends(generation)) >= set(ids):
            return {}
        return {GENERATION: as_json({**generation, "eos_token_id": list(ids)})}

    @cached_property
    def _tokenizer(self) -> dict[str, Any]:
        return self._json(TOKENIZER)

    def _json(self, name: str) -> dict[str, Any]:
        return _object(self.source.with_name(name), self.contents.get(name, b"{}"))


def _template_file(name: str) -> str:
    return TEMPLATE if name == "default" else f"{TEMPLATES}/{name}.jinja"


def settings_of(begin: str | None, end: str, pad: str | None, *, begins: bool) -> bytes:
    """tokenizer_config.json of a tokenizer that comes with none.

    Args:
        begins: texts begin with the first mark.
    """
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": begins,
        "bos_token": begin,
        "eos_token": end,
        "pad_token": pad,
        "clean_up_tokenization_spaces": False,
    }
    return as_json({key: value for key, value in settings.items() if value is not None})


def token_name(given: Any) -> str | None:
    """The name of a token in tokenizer_config.json, where it may stand with its settings."""
    name = given.get("content") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else None


def add_tokens(backend: Backend, names: Iterable[str]) -> Backend:
    """A copy with special tokens of these names, where it lacks them, behind all others."""
    new = Backend.from_str(backend.to_str())
    missing = [name for name in names if new.token_to_id(name) is None]
    new.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
    return new


def as_json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _ends(config: Mapping[str, Any]) -> tuple[int, ...]:
    ids = config.get("eos_token_id")
    return tuple(ids) if isinstance(ids, list) else () if ids is None else (ids,)


def _object(file: Path, content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: not a JSON object.")
    return values
