"""Which form an answer is asked to have: any text, an object, or JSON of a schema."""

from collections.abc import Mapping
from typing import Any

from foundling.base.config import ConfigError

_KINDS = ("text", "json_object", "json_schema")


def schema_of(given: Mapping[str, Any] | None, where: str = "response_format") -> Any:
    """The JSON schema that an answer must follow; None: it is free.

    A schema is followed whether or not it is called strict. `json_object` is any object.

    Args:
        given: as chat completions say it, {"type": "json_schema", "json_schema": {...}}, or, with
            the members of the inner object beside the type, as responses do.
        where: the name of the field.

    Raises:
        ConfigError: it is none of these forms.
    """
    if given is None:
        return None
    kind = given.get("type")
    if kind not in _KINDS:
        raise ConfigError(f"{where}.type = {kind!r}: give one of {', '.join(_KINDS)}.")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    inner = given.get("json_schema", given)
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if not isinstance(schema, Mapping):
        raise ConfigError(
            f'{where}: a "json_schema" has {{"name": ..., "schema": {{...}}}}, where the schema '
            "is an object."
        )
    return dict(schema)
