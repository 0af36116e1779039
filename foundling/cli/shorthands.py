"""Gives verbs the flags of a table of shorthands."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from foundling.base.shorthand import Shorthand


def settings_by(given: Mapping[Shorthand, Any]) -> dict[str, Any]:
    """What these flags set, by dotted name."""
    return {key: one for flag, value in given.items() for key, one in flag.settings(value).items()}


def with_shorthands(
    table: Sequence[Shorthand], without: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Any]:
    """Give a verb these flags, where its argument `given` stands, and none of `without`.

    `given` has the flags that were used, with their values.
    """

    def decorated(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def run(**options: Any) -> None:
            values = {one: options.pop(f"_{one.name}") for one in table}
            given = {one: value for one, value in values.items() if value not in (None, [])}
            verb(**options, given=given)

        keyword = inspect.Parameter.KEYWORD_ONLY
        flags = []
        for one in table:
            info = typer.Option(
                one.flag, help=one.help_text, metavar=one.metavar, envvar=one.envvar
            )
            kind = Annotated[one.kind | None, info]
            flags.append(inspect.Parameter(f"_{one.name}", keyword, default=None, annotation=kind))
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(verb, eval_str=True).parameters.values():
            if own.name == "given":
                parameters += flags
            elif own.name not in without:
                parameters.append(own.replace(kind=keyword))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorated
