"""The verb that talks with a model."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundling.base.shorthand import Shorthand
from foundling.cli.app import Json, app, read_stdin, report_json
from foundling.cli.engine_flags import engine_flags, engine_settings
from foundling.cli.shorthands import with_shorthands

if TYPE_CHECKING:
    from foundling.generation.chat_session import ChatSettings
    from foundling.generation.engine import Engine

MODEL = "A run, a checkpoint, a model folder, or hub:owner/name."


@app.command()
@with_shorthands(engine_flags())
def chat(
    run: Annotated[str, typer.Argument(help=MODEL)],
    run2: Annotated[
        str | None, typer.Argument(help="Another one, which answers beside it.")
    ] = None,
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    message: Annotated[
        str | None, typer.Option(help="Ask only this; - reads standard input.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.0,
    template: Annotated[
        str | None,
        typer.Option(
            help="The chat template: chatml, one of the model's by name, or a file; default: its "
            "own.",
            metavar="NAME|FILE",
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw from the most likely tokens that hold this probability."),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens of an answer; default: what the context holds."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    *,
    given: Mapping[Shorthand, Any],
    as_json: Json = False,
) -> None:
    """Chat with a model in its own format, or with two side by side.

    At a terminal /help lists the commands; from a pipe each line is a message, up to an empty one.
    """
    from foundling.generation.chat_session import ChatSettings
    from foundling.generation.opening import open_engine

    drawn = {"temperature": temperature, "top_p": top_p, "seed": seed}
    settings = ChatSettings.parse({**drawn, "max_tokens": max_tokens})
    models = _named([run] if run2 is None else [run, run2])
    options: dict[str, Any] = {"device": device, "template": template}
    options["settings"] = engine_settings(given)
    engines = {name: open_engine(model, **options) for name, model in models.items()}
    if message is None and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        from foundling.cli.chat_terminal import ChatTerminal

        untuned = [] if template else [n for n, model in models.items() if not _converses(model)]
        ChatTerminal(engines, settings, system, untuned).run()
        return
    told = _converse(engines, settings, system, message, quiet=as_json)
    chats = [{"model": model, "messages": told[name]} for name, model in models.items()]
    report_json({"messages": chats[0]["messages"]} if run2 is None else {"chats": chats}, as_json)


def _converse(
    engines: Mapping[str, "Engine"],
    settings: "ChatSettings",
    system: str,
    single: str | None,
    *,
    quiet: bool,
) -> dict[str, list[dict[str, str]]]:
    """Answer one message, or each line of standard input; all that was said, by model."""
    from foundling.generation.conversation import answer
    from foundling.text.chat import Message

    chats = {name: [Message("system", system)] if system else [] for name in engines}
    text = read_stdin() if single == "-" else single
    while asked := _next_line() if text is None else text:
        for name, messages in chats.items():
            if len(chats) > 1 and not quiet:
                print(f"{name}:")
            messages.append(Message("user", asked))
            pieces = []
            for piece in answer(
                engines[name],
                messages,
                max_tokens=settings.max_tokens,
                sampling=settings.sampling,
            ):
                pieces.append(piece)
                if not quiet:
                    print(piece, end="", flush=True)
            if not quiet:
                print()
            messages.append(Message("assistant", "".join(pieces)))
        if text is not None:
            break
    return {
        name: [{"role": one.role, "content": one.content} for one in messages]
        for name, messages in chats.items()
    }


def _named(models: Sequence[str]) -> dict[str, str]:
    """The models by names to show: those of their folders, if they differ."""
    from foundling.base.config import ConfigError

    names = [Path(model).name for model in models]
    if len(set(names)) < len(models):
        names = list(models)
    if len(set(names)) < len(models):
        raise ConfigError(f"{models[0]}: is given twice; give another model beside it.")
    return dict(zip(names, models, strict=True))


def _converses(model: str) -> bool:
    """Whether a model was tuned on conversations, as one that lies in no run is taken to be."""
    from foundling.runs.run import find_model, tuned_on_turns

    return tuned_on_turns(find_model(model)) is not False


def _next_line() -> str:
    print("> ", end="", file=sys.stderr, flush=True)
    return read_stdin(line=True).strip()
