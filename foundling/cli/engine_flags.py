"""Flags of the verbs that generate: how the model is run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from foundling.base.shorthand import Shorthand
from foundling.cli.shorthands import settings_by

if TYPE_CHECKING:
    from foundling.generation.settings import EngineSettings


def engine_flags(prefix: str = "") -> tuple[Shorthand, ...]:
    """They set an engine's settings; `prefix` is where these stand."""
    return (
        Shorthand(
            "--precision", f"{prefix}precision", "fp32 (the default) or bf16.",
            kind=Literal["fp32", "bf16"],
        ),
        Shorthand(
            "--quantize", f"{prefix}quantize",
            "The weights in int8 or int4, and the loss that this costs is told; default: none.",
            kind=Literal["none", "int8", "int4"],
        ),
        Shorthand(
            "--lookup", f"{prefix}lookup",
            "Guess that what followed earlier in the text follows again; faster where it does, and "
            "the text is the same.", kind=bool,
        ),
        Shorthand(
            "--draft", f"{prefix}draft",
            "A smaller model of the same tokenizer that guesses ahead; the text is the same.",
            "RUN",
        ),
    )  # fmt: skip


def engine_settings(given: Mapping[Shorthand, Any]) -> "EngineSettings":
    from foundling.generation.settings import EngineSettings

    return EngineSettings.parse(settings_by(given))
