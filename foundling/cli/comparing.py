"""The verb that collects preferences: the blind comparison page."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from foundling.cli.app import app, say

if TYPE_CHECKING:
    from foundling.preferences.records import Kind
    from foundling.preferences.store import PreferenceStore


@app.command()
def compare(
    a: Annotated[
        str | None,
        typer.Argument(help="A run, model folder, URL (http://HOST/v1#MODEL) or file of answers."),
    ] = None,
    b: Annotated[str | None, typer.Argument(help="The other; A again to sample it twice.")] = None,
    db: Annotated[
        str, typer.Option(help="Where votes are kept: a file, or postgresql://...", metavar="PLACE")
    ] = "votes.db",
    prompts: Annotated[
        Path | None,
        typer.Option(help="What is asked; default: what the file A answers.", metavar="FILE"),
    ] = None,
    kind: Annotated[
        Literal["comparison", "rating", "both"],
        typer.Option(
            help="Which is better, how good is each from 1 to 7, or first one then the other."
        ),
    ] = "comparison",
    overlap: Annotated[int, typer.Option(help="Annotators for each item.")] = 1,
    repeat_share: Annotated[
        float, typer.Option(help="Items shown again, sides flipped: self-consistency.")
    ] = 0.1,
    strategy: Annotated[
        Literal["random", "uncertain", "largest_gap"],
        typer.Option(help="Which item comes next, by the votes so far."),
    ] = "random",
    gold: Annotated[
        Path | None,
        typer.Option(help="Preferences known to be right, shown among the others.", metavar="FILE"),
    ] = None,
    rubric: Annotated[
        Path | None, typer.Option(help="What makes an answer better, as text.", metavar="FILE")
    ] = None,
    annotators: Annotated[
        str | None, typer.Option(help="Print a link for each.", metavar="NAME,...")
    ] = None,
    new_links: Annotated[
        bool, typer.Option("--new-links", help="Print new links; those given before end.")
    ] = False,
    invited: Annotated[bool, typer.Option(help="Only the printed links work.")] = False,
    host: Annotated[str, typer.Option(help="Beyond this machine only with --annotators.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8420,
    seed: Annotated[int, typer.Option(help="Of answers, sides and the order.")] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="Of models' answers; default 1, and 0 is greedy.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from this share.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Of an answer; default: as many as the context holds.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page here.")] = False,
) -> None:
    """Compare the answers of two models blindly, in the browser; Ctrl-C ends it."""
    from foundling.base.config import ConfigError
    from foundling.preferences.database import shown
    from foundling.preferences.leasing import Leasing
    from foundling.preferences.producing import open_producer
    from foundling.preferences.sources import Answering
    from foundling.preferences.store import PreferenceStore
    from foundling.studio.desk import Desk
    from foundling.studio.gold import gold_pairs
    from foundling.studio.production import Production
    from foundling.studio.server import base_url, bind, is_loopback, links, serve

    settings = Leasing.parse(
        {"overlap": overlap, "repeat_share": repeat_share, "strategy": strategy, "seed": seed}
    )
    given = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
    drawing = {name: value for name, value in given.items() if value is not None}
    answering = Answering.parse(drawing)
    if drawing and all(source is None or Path(source).is_file() for source in (a, b)):
        name = next(iter(drawing)).replace("_", "-")
        raise ConfigError(f"--{name}: only models draw their answers; leave it out.")
    names = [name.strip() for name in annotators.split(",")] if annotators is not None else []
    if len(set(names)) < len(names):
        raise ConfigError(f"--annotators {annotators}: give each name once.")
    invited = invited or not is_loopback(host)
    if invited and not names:
        which = "--invited" if is_loopback(host) else f"--host {host}"
        raise ConfigError(
            f"{which}: only printed links work; name who gets one: --annotators NAME,..."
        )
    if new_links and not names:
        raise ConfigError("--new-links: say for whom: --annotators NAME,...")
    golds = gold_pairs(gold, seed) if gold is not None else []
    text = _read(rubric) if rubric is not None else None
    asked = _asked(a, b, prompts)
    if a is None and "://" not in db and not Path(db).exists():
        raise ConfigError(f"{db}: no such file; give A and B, whose answers it is to hold.")
    listening = bind(host, port)
    with listening, PreferenceStore.open(db) as store:
        producer = None
        if a is not None and b is not None:
            producer = open_producer(
                a, b, asked, store, settings=answering, seed=seed, device=device
            )
        elif not store.pairs():
            raise ConfigError(f"{db}: holds no pairs yet; give A and B, whose answers to compare.")
        store.add_pairs(golds)
        kinds: tuple[Kind, ...] = ("comparison", "rating") if kind == "both" else (kind,)
        production = Production(store, producer) if producer is not None else None
        desk = Desk(store, settings, kinds, invited, production)
        if text is not None:
            desk.set_rubric(text)
        base = base_url(listening)
        personal = links(desk, base, names, renew=new_links)
        before = len(store.judgements())

        def ready() -> None:
            if not invited:
                print(f"Compare: {base}", flush=True)
            for name, link in personal.items():
                kept = "has a link already; --new-links prints new ones"
                print(f"{name}: {link or kept}", flush=True)
            say(f"votes go to {shown(db)}; Ctrl-C ends")
            if open_browser:
                typer.launch(next(filter(None, personal.values()), base))

        with suppress(KeyboardInterrupt):
            serve(desk, listening, ready)
        say(_farewell(store, before, db))


def _asked(a: str | None, b: str | None, prompts: Path | None) -> Path:
    """The file of prompts.

    Raises:
        ConfigError: one source alone, or nothing says what models are to be asked.
    """
    from foundling.base.config import ConfigError

    if a is None or b is None:
        if a is not None:
            raise ConfigError(f"{a}: compared with what? Give two, A and B.")
        if prompts is not None:
            raise ConfigError(f"--prompts {prompts}: give A and B, who are to answer.")
    elif prompts is None and not Path(a).is_file():
        raise ConfigError(f"{a}: what is it to be asked? Give --prompts FILE.")
    return prompts or Path(a or "")


def _farewell(store: "PreferenceStore", before: int, db: str) -> str:
    from foundling.preferences.database import shown

    kept = len(store.judgements())
    return f"{kept:,} votes are kept in {shown(db)}, {kept - before:+,} now"


def _read(rubric: Path) -> str:
    from foundling.base.config import ConfigError

    try:
        return rubric.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{rubric}: is not text in UTF-8.") from None
