"""The verb that serves models over HTTP."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from foundling.base.shorthand import Shorthand, names
from foundling.cli.app import Config, Set, app, log_as, say, settings_of
from foundling.cli.engine_flags import engine_flags
from foundling.cli.shorthands import settings_by, with_shorthands

KEY = "FOUNDLING_API_KEY"

SHORTHANDS = (
    Shorthand("--host", "host", "Beyond this machine only with a key; default: 127.0.0.1."),
    Shorthand("--port", "port", "0 takes a free one; default: 8000.", kind=int),
    Shorthand(
        "--public-url", "public_url", "The address that people open, as behind a proxy.", "URL"
    ),
    Shorthand(
        "--cors", "cors", "Sites whose pages may use the server; * is every site.",
        "ORIGIN,...", read=names,
    ),
    Shorthand(
        "--allow-unauthenticated", "allow_unauthenticated",
        "Serve other machines without a key.", kind=bool,
    ),
    Shorthand("--max-loaded", "max_loaded", "Models in memory at once; default: all.", kind=int),
    Shorthand(
        "--max-batch", "engine.max_batch",
        "Requests that are generated at once; default: 32, on a GPU 256.", kind=int,
    ),
    Shorthand(
        "--queue-size", "engine.queue_size",
        "Requests that wait; more are refused (429). Default: 1024.", kind=int,
    ),
    *engine_flags("engine."),
    Shorthand("--max-body", "max_body", "Bytes of the longest body; default: 8 MiB.", kind=int),
    Shorthand("--timeout", "timeout", "Seconds for a request; default: 600.", kind=float),
    Shorthand(
        "--drain", "drain",
        "Seconds that running requests are given at SIGTERM; default: 30.", kind=float,
    ),
    Shorthand(
        "--template", "template",
        "The models' chat template: chatml, one of theirs by name, or a file; default: their own.",
        "NAME|FILE",
    ),
    Shorthand("--votes", "votes", "Where the page's votes are kept: a file, or a URL.", "PLACE"),
    Shorthand("--device", "device", "cpu, cuda, or auto (the default)."),
)  # fmt: skip


@app.command()
@with_shorthands(SHORTHANDS)
def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Runs, checkpoints, model folders, or hub:owner/name."
        ),
    ],
    name: Annotated[
        list[str],
        typer.Option(
            help="What a model is called, once for each; default: the folder's name.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    api_key: Annotated[
        list[str],
        typer.Option(
            "--api-key", envvar=KEY, metavar="KEY",
            help="A key that clients must give, repeatable; others see it in the list of "
            "processes, so give a file or the variable.",
        ),
    ] = [],  # noqa: B006
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="Keys, one a line."),
    ] = None,
    config: Config = None,
    *,
    given: Mapping[Shorthand, Any],
    settings: Set = [],  # noqa: B006
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log one JSON object a line.")
    ] = False,
) -> None:  # fmt: skip
    """Serve models to clients of OpenAI's and Anthropic's interfaces, with a page to chat at /.

    Where a request does not say how tokens are drawn, the model's generation_config.json does;
    without one they are drawn from the whole distribution (temperature 1), as at OpenAI.
    """
    from foundling.serving.process import serve as run
    from foundling.serving.settings import ServingSettings

    if log_json:
        log_as(_JsonLines())
    parsed = ServingSettings.parse(settings_of(config, settings_by(given), settings))
    keys = [*api_key, *(_keys(api_key_file) if api_key_file is not None else [])]

    def ready(base: str, served: Sequence[str]) -> None:
        print(f"Serving {', '.join(served)}: {base}", flush=True)
        if not log_json:
            say(f"base_url of OpenAI's clients: {base}/v1; the page: {base}; Ctrl-C ends")

    run(runs, parsed, ready, names=name, keys=keys)


def _keys(file: Path) -> list[str]:
    from foundling.base.config import ConfigError

    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeError):
        raise ConfigError(f"--api-key-file {file}: cannot be read.") from None
    found = [line for line in lines if line]
    if not found:
        raise ConfigError(f"--api-key-file {file}: holds no key; write one a line.")
    return found


class _JsonLines(logging.Formatter):
    """One JSON object a line; that of a request has its figures."""

    def format(self, record: logging.LogRecord) -> str:
        values = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        facts = getattr(record, "request", None)
        values |= facts if facts is not None else {"message": record.getMessage()}
        if record.exc_info:
            values["trace"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)
