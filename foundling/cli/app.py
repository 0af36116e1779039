"""The command line's frame: the program, its exit codes, what its verbs share."""

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from foundling import __version__
from foundling.base.process import INTERRUPTED, interruptible, process_number, require_single
from foundling.cli import launching

# Everything heavy is imported inside the verbs: `--help` answers at once.


class Verbs(TyperGroup):
    """What holds for every verb: arguments are text, and Ctrl-C ends it cleanly."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for argument in args:
            if any("\ud800" <= mark <= "\udfff" for mark in argument):
                from foundling.base.config import ConfigError

                raise ConfigError(f"argument {argument!a}: not UTF-8 text.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with interruptible():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted.")
            raise typer.Exit(INTERRUPTED) from None


Function = TypeVar("Function", bound=Callable[..., Any])


class Verb(TyperCommand):
    """A verb: one process, and no option is given twice but one that can be repeated."""

    def invoke(self, ctx: Any) -> Any:
        require_single(ctx.info_name)
        return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        used = self.make_parser(ctx).parse_args(list(args))[2]
        for option in used:
            if used.count(option) > 1 and not (option.is_eager or option.multiple):
                from foundling.base.config import ConfigError

                raise ConfigError(
                    f"{option.opts[0]}: was given {used.count(option)} times; give one."
                )
        return super().parse_args(ctx, args)


class SharedVerb(Verb):
    """A verb that several processes may work together."""

    def invoke(self, ctx: Any) -> Any:
        return TyperCommand.invoke(self, ctx)


class Program(typer.Typer):
    """A group of verbs."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:
        return super().command(name, **{"cls": Verb, **options})


app = Program(
    name="foundling",
    cls=Verbs,
    help="Train language models, from raw text to models that people prefer, all measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = Program(help="Prepare, verify and preview data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, repeatable.")
]
Config = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")
]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.", metavar="DIR")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")]


class _Terminal(logging.Handler):
    """Shows what the library reports on standard error, with the traceback of a defect."""

    def emit(self, record: logging.LogRecord) -> None:
        is_plain = self.formatter is None and record.levelno >= logging.WARNING
        level = f"{record.levelname.lower()}: " if is_plain else ""
        say(f"{level}{self.format(record)}")


_terminal = _Terminal()


def log_as(formatter: logging.Formatter) -> None:
    """Show what is logged, by the web server too, as this formatter writes it."""
    _terminal.setFormatter(formatter)
    logging.getLogger("uvicorn").addHandler(_terminal)


def exit_code(run: Callable[[], object]) -> int:
    """What the process is to end with; a fault of the input is one line, never a traceback.

    Of several processes the first one speaks; others where it does not say the same.
    """
    reports = logging.getLogger("foundling")
    reports.setLevel(logging.INFO)
    reports.addHandler(_terminal)  # once, however often this is called
    number = process_number()
    _terminal.setLevel(logging.ERROR if number else logging.NOTSET)
    try:
        code, words = _outcome(run)
    except Exception:
        if number and launching.has_ended():
            return 0  # the first process has left, and said why
        raise
    if words is not None and not (number and launching.waited_for_end()):
        say(f"process {number}: {words}" if number else words)
    return launching.end(code)


def _outcome(run: Callable[[], object]) -> tuple[int, str | None]:
    """The exit code, and what is to be said."""
    from foundling.base.config import ConfigError

    try:
        run()
    except SystemExit as stop:
        return int(stop.code or 0), None
    except ConfigError as error:
        return 2, f"error: {error}"
    except BrokenPipeError:
        sys.stderr.close()
        return 1, None
    except OSError as error:
        return 2, f"error: {error.filename or 'a file'}: {error.strerror or error}."
    except Exception as error:
        # Imported only now: the loop imports torch, the client a library, and only verbs that
        # have imported them can raise these.
        from foundling.preferences.client import HttpError
        from foundling.training.interrupt import Interrupted
        from foundling.training.rewind import TrainingStopped
        from foundling.training.watchdog import ProcessFailed

        if isinstance(error, HttpError):
            return 2, f"error: {error}"
        if isinstance(error, Interrupted):
            return INTERRUPTED, "interrupted; everything is saved. Resume with --resume."
        if isinstance(error, TrainingStopped):
            return 3, f"training stopped itself: {error}"
        if isinstance(error, ProcessFailed):
            return 1, f"error: {error}; this process ends with it."
        raise
    return 0, None


def read_stdin(line: bool = False) -> str:
    """Standard input, or its next line. Raises ConfigError where it is not UTF-8 text."""
    from foundling.base.config import ConfigError

    try:
        text = sys.stdin.readline() if line else sys.stdin.read()
        text.encode()  # some locales let other bytes in as halves of surrogate pairs
    except UnicodeError:
        raise ConfigError("standard input: not UTF-8 text.") from None
    return text


def say(text: str) -> None:
    print(text, file=sys.stderr)


def report_json(values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))


def settings_of(
    config: Path | None, flags: Mapping[str, Any], assignments: Sequence[str]
) -> dict[str, Any]:
    """The settings of a TOML file, then the flags that were given, then each `--set`.

    Args:
        flags: by dotted name, such as "leasing.overlap".

    Raises:
        ConfigError: the file cannot be read, or an assignment is not KEY=VALUE.
    """
    from foundling.base.config import load_toml, override

    values = {} if config is None else load_toml(config)
    return override(override(values, flags), assignments)


def numbers(name: str, text: str) -> list[int]:
    """The whole numbers of an option, such as 0,1,2,4. Raises ConfigError."""
    from foundling.base.config import ConfigError

    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(f"--{name} {text}: expected whole numbers, such as 0,1,2,4.") from None


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"foundling {__version__}")
        raise typer.Exit
