"""TOML files as frozen, checked settings, where an unknown key is an error with a suggestion."""

import copy
import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)


class ConfigError(ValueError):
    """The user's settings are at fault; the message is one line that says what to do."""


class Section(BaseModel):
    """A frozen group of settings; a key it does not know is an error.

    A section within it that is given in part keeps what its default says of the rest.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        completed = dict(given)
        for name, field in cls.model_fields.items():
            part, default = given.get(name), field.default
            if isinstance(part, Mapping) and isinstance(default, Section):
                said = {key: getattr(default, key) for key in default.model_fields_set}
                completed[name] = {**said, **part}
        return completed

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, given: Any, info: ValidationInfo) -> Any:
        if isinstance(given, bool) and info.field_name is not None:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if not kinds & {bool, Any} and kinds & {int, float}:
                raise ValueError("expected a number, not true or false")
        return given

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Check `values`; `where` is the dotted name of the section they came from.

        Raises:
            ConfigError: the first thing wrong: its key, what was given, what is allowed.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} = {values}: expected a section of settings, not one value.")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_explain(cls, error, where)) from None

    def values(self) -> dict[str, Any]:
        """Every setting, defaults included, in plain types."""
        return self.model_dump(mode="json")


def _kinds(annotation: Any) -> set[Any]:
    """The types of a union, or the one type."""
    return set(get_args(annotation)) or {annotation}


def suggest(name: str, known: Sequence[str]) -> str:
    """The end of an error message: what is allowed, and the nearest name if one is near."""
    allowed = ", ".join(sorted(known))
    near = difflib.get_close_matches(name, known, n=1)
    return f"({allowed})." + (f' Did you mean "{near[0]}"?' if near else "")


def load_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file.") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; give a .toml file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def load_json(path: Path) -> dict[str, Any]:
    """Read the JSON object that one file holds.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold one JSON object.")
    return values


Assignments = Sequence[str] | Mapping[str, Any]
"""Texts of the form section.key=value, or values by dotted name."""


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the setting of this dotted name; sections that are missing are made.

    Raises:
        ConfigError: a part before the last names a value, not a section.
    """
    *sections, last = key.split(".")
    for section in sections:
        found = values.setdefault(section, {})
        if not isinstance(found, dict):
            raise ConfigError(f"{key}: {section} = {found} is a value, not a section.")
        values = found
    values[last] = value


def override(values: Mapping[str, Any], assignments: Assignments) -> dict[str, Any]:
    """A copy of `values` with each of `assignments` set.

    The value of a text is read as TOML (`0.1`, `true`, `[1, 2]`) and, failing that, as a plain
    string.

    Raises:
        ConfigError: a text is not of the form section.key=value, or a section is a value.
    """
    result = copy.deepcopy(dict(values))
    if isinstance(assignments, Mapping):
        for key, value in assignments.items():
            put(result, key, value)
        return result
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f'--set "{assignment}": expected section.key=value.')
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        try:
            put(result, key.strip(), value)
        except ConfigError as error:
            raise ConfigError(f'--set "{assignment}": {error}') from None
    return result


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no section, by its dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def dump_toml(values: Mapping[str, Any]) -> str:
    """`values` as TOML text; a setting that is None is left out, as TOML has no null."""
    lines: list[str] = []
    _dump_table(values, "", lines)
    return "\n".join(lines).strip() + "\n"


def _dump_table(values: Mapping[str, Any], prefix: str, lines: list[str]) -> None:
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    plain = {k: v for k, v in values.items() if k not in tables and v is not None}
    if prefix and plain:
        lines.append(f"\n[{prefix}]")
    lines.extend(f"{key} = {_dump_value(value)}" for key, value in plain.items())
    for key, value in tables.items():
        _dump_table(value, f"{prefix}.{key}" if prefix else key, lines)


def _dump_value(value: object) -> str:
    # JSON's numbers, strings, booleans and lists are TOML's too, but for a raw delete character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _explain(section: type[Section], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = ".".join([where, *map(str, first["loc"])] if where else map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = _known_keys(section, [str(part) for part in first["loc"][:-1]])
        allowed = f" {suggest(str(first['loc'][-1]), known)}" if known else "."
        return f"{path}: no such setting{allowed}"
    if first["type"] == "missing":
        return f"{path}: this setting is required."
    given = json.dumps(first["input"], default=str)
    message = first["msg"].removeprefix("Value error, ")
    return f"{path} = {given}: {message[0].lower()}{message[1:]}."


def _known_keys(section: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = section.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            return []
        section = field.annotation
    return list(section.model_fields)
