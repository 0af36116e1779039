"""Flags that stand for settings, as a table: `--shots 0,4` for `--set in_context.shots=[0,4]`."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Shorthand:
    """A flag and the settings that it sets, with spaces between; `kind` is what typer reads."""

    flag: str
    keys: str
    help: str
    metavar: str | None = None
    kind: Any = str
    read: Callable[[str, Any], Any] = lambda flag, value: value
    envvar: str | None = None

    @property
    def name(self) -> str:
        return self.flag.partition("/")[0].lstrip("-").replace("-", "_")

    @property
    def help_text(self) -> str:
        """The help, with the names of settings that are not the flag's own."""
        other = ", ".join(key for key in self.keys.split() if key != self.name)
        return f"{self.help} Sets {other}." if other else self.help

    def settings(self, value: Any) -> dict[str, Any]:
        """What the flag sets, by dotted key."""
        return dict.fromkeys(self.keys.split(), self.read(self.name, value))


def names(flag: str, text: str) -> list[str]:
    """The names in `a, b`."""
    return [name.strip() for name in text.split(",")]


def with_shorthands(table: Sequence[Shorthand]) -> Callable[[Callable[..., None]], Any]:
    """Give a verb these flags; its argument `given` has those that were used, with their values."""

    def decorated(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def run(**options: Any) -> None:
            values = {one: options.pop(one.name) for one in table}
            given = {one: value for one, value in values.items() if value not in (None, [])}
            verb(**options, given=given)

        own = inspect.signature(verb, eval_str=True).parameters.values()
        flags = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    one.kind | None,
                    typer.Option(
                        one.flag, help=one.help_text, metavar=one.metavar, envvar=one.envvar
                    ),
                ],
            )
            for one in table
        ]
        parameters = [
            *(p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != "given"),
            *flags,
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorated
