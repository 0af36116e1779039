"""The verb that collects preferences: the blind comparison page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from foundling.cli.app import Set, app, say, settings_of

if TYPE_CHECKING:
    from foundling.studio.comparison import Opened


@app.command()
def compare(
    a: Annotated[
        str | None,
        typer.Argument(help="A run, model folder, URL (http://HOST/v1#MODEL) or file of answers."),
    ] = None,
    b: Annotated[str | None, typer.Argument(help="The other; A again to sample it twice.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of settings.", metavar="FILE")
    ] = None,
    db: Annotated[
        str | None,
        typer.Option(
            help="Where votes are kept: a file, or postgresql://...; default: votes.db.",
            metavar="PLACE",
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="The prompts; default: those that the file A answers.", metavar="FILE"),
    ] = None,
    kind: Annotated[
        Literal["comparison", "rating", "both"] | None,
        typer.Option(
            help="Which is better (the default), how good each is from 1 to 7, or one after the "
            "other."
        ),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Annotators for each item; default: 1.")
    ] = None,
    repeat_share: Annotated[
        float | None,
        typer.Option(help="Items shown again with sides flipped: self-consistency; default: 0.1."),
    ] = None,
    strategy: Annotated[
        Literal["random", "uncertain", "largest_gap"] | None,
        typer.Option(help="Which item comes next, by the votes so far; default: random."),
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(help="Preferences known to be right, shown among the others.", metavar="FILE"),
    ] = None,
    rubric: Annotated[
        str | None, typer.Option(help="What makes an answer better, as text.", metavar="FILE")
    ] = None,
    annotators: Annotated[
        str | None, typer.Option(help="Print a link for each.", metavar="NAME,...")
    ] = None,
    leads: Annotated[
        str | None,
        typer.Option(
            help="Of these, whose links change the rubric where one is invited.", metavar="NAME,..."
        ),
    ] = None,
    new_links: Annotated[
        bool, typer.Option("--new-links", help="Print new links; those given before end.")
    ] = False,
    invited: Annotated[bool, typer.Option("--invited", help="Only the printed links work.")] = (
        False
    ),
    host: Annotated[
        str | None,
        typer.Option(help="Beyond this machine only with --annotators; default: 127.0.0.1."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free one; default: 8420.")] = None,
    public_url: Annotated[
        str | None,
        typer.Option(help="The address that people open, as behind a proxy.", metavar="URL"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of answers, sides and the order.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of models' answers; default: 1, and 0 is greedy.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from this share.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Of an answer; default: as many as the context holds.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or auto (the default).")] = None,
    settings: Set = [],  # noqa: B006 - typer copies it
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page here.")] = False,
) -> None:
    """Compare the answers of two models blindly, in the browser; Ctrl-C ends it."""
    from foundling.preferences.database import shown
    from foundling.studio.comparison import CompareConfig
    from foundling.studio.comparison import compare as serve

    flags = {
        "db": db, "prompts": prompts, "kind": kind, "gold": gold, "rubric": rubric,
        "annotators": annotators and annotators.split(","), "leads": leads and leads.split(","),
        "invited": invited or None, "host": host, "port": port, "public_url": public_url,
        "seed": seed, "device": device, "leasing.overlap": overlap,
        "leasing.repeat_share": repeat_share, "leasing.strategy": strategy, "leasing.seed": seed,
        "answers.temperature": temperature, "answers.top_p": top_p,
        "answers.max_tokens": max_tokens,
    }  # fmt: skip
    parsed = CompareConfig.parse(settings_of(config, flags, settings))

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
