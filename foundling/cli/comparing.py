"""The verb that collects preferences: the blind comparison page."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foundling.base.shorthand import Shorthand, names
from foundling.cli.app import Config, Set, app, say, settings_of
from foundling.cli.shorthands import settings_by, with_shorthands

if TYPE_CHECKING:
    from foundling.studio.comparison import Opened

SHORTHANDS = (
    Shorthand(
        "--db", "db", "Where votes are kept: a file, or postgresql://...; default: votes.db.",
        "PLACE",
    ),
    Shorthand(
        "--prompts", "prompts", "The prompts; default: those that the file A answers.", "FILE"
    ),
    Shorthand(
        "--kind", "kind",
        "Which is better (the default), how good each is from 1 to 7, or one after the other.",
        kind=Literal["comparison", "rating", "both"],
    ),
    Shorthand("--overlap", "leasing.overlap", "Annotators for each item; default: 1.", kind=int),
    Shorthand(
        "--repeat-share", "leasing.repeat_share",
        "Items shown again with sides flipped: self-consistency; default: 0.1.", kind=float,
    ),
    Shorthand(
        "--strategy", "leasing.strategy",
        "Which item comes next, by the votes so far; default: random.",
        kind=Literal["random", "uncertain", "largest_gap"],
    ),
    Shorthand(
        "--gold", "gold", "Preferences known to be right, shown among the others.", "FILE"
    ),
    Shorthand("--rubric", "rubric", "What makes an answer better, as text.", "FILE"),
    Shorthand("--annotators", "annotators", "Print a link for each.", "NAME,...", read=names),
    Shorthand(
        "--leads", "leads",
        "With --invited, the annotators who may change the rubric.", "NAME,...", read=names,
    ),
    Shorthand("--invited", "invited", "Only the printed links work.", kind=bool),
    Shorthand(
        "--host", "host", "Beyond this machine only with --annotators; default: 127.0.0.1."
    ),
    Shorthand("--port", "port", "0 takes a free one; default: 8420.", kind=int),
    Shorthand(
        "--public-url", "public_url", "The address that people open, as behind a proxy.", "URL"
    ),
    Shorthand(
        "--seed", "seed leasing.seed", "The seed of answers, sides and the order.", kind=int
    ),
    Shorthand(
        "--temperature", "answers.temperature",
        "Temperature of models' answers; default: 1, and 0 is greedy.", kind=float,
    ),
    Shorthand(
        "--top-p", "answers.top_p", "Draw from the most likely tokens that reach this share.",
        kind=float,
    ),
    Shorthand(
        "--max-tokens", "answers.max_tokens",
        "Most tokens of an answer; default: as many as the context holds.", kind=int,
    ),
    Shorthand(
        "--template", "template",
        "The models' chat template: chatml, one of theirs by name, or a file; default: their own.",
        "NAME|FILE",
    ),
    Shorthand("--device", "device", "cpu, cuda, or auto (the default)."),
)  # fmt: skip


@app.command()
@with_shorthands(SHORTHANDS)
def compare(
    a: Annotated[
        str | None,
        typer.Argument(help="A run, model folder, URL (http://HOST/v1#MODEL) or file of answers."),
    ] = None,
    b: Annotated[str | None, typer.Argument(help="The other; A again to sample it twice.")] = None,
    config: Config = None,
    *,
    given: Mapping[Shorthand, Any],
    new_links: Annotated[
        bool, typer.Option("--new-links", help="Print new links and end the earlier ones.")
    ] = False,
    settings: Set = [],  # noqa: B006 - typer copies it
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page here.")] = False,
) -> None:
    """Compare the answers of two models blindly, in the browser; Ctrl-C ends it."""
    from foundling.preferences.database import shown
    from foundling.studio.comparison import CompareConfig
    from foundling.studio.comparison import compare as serve

    parsed = CompareConfig.parse(settings_of(config, settings_by(given), settings))

    def opened(page: "Opened") -> None:
        if not page.invited:
            print(f"Compare: {page.base}", flush=True)
        for name, link in page.links.items():
            kept = "has a link already; --new-links prints new ones"
            print(f"{name}: {link or kept}", flush=True)
        say(f"votes go to {shown(parsed.db)}; Ctrl-C ends")
        if open_browser:
            typer.launch(next(filter(None, page.links.values()), page.base))

    serve(a, b, parsed, opened, new_links=new_links)
