"""The verbs about preferences: statistics, export, import and simulated annotators."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from foundling.cli.app import Json, Program, app, report_json, say
from foundling.cli.columns import Columns

if TYPE_CHECKING:
    from foundling.preferences.records import Who
    from foundling.preferences.selection import Selection
    from foundling.preferences.store import PreferenceStore

preferences_app = Program(
    help="Preferences: statistics, export, import and simulated annotators.", no_args_is_help=True
)
app.add_typer(preferences_app, name="preferences")

Db = Annotated[str, typer.Argument(help="A database file, or postgresql://...", metavar="DB")]
ByWhom = Annotated[
    Literal["all", "people", "simulated"],
    typer.Option("--who", help="Whose votes count: all, people's or simulated ones."),
]
Without = Annotated[
    str,
    typer.Option(help="Annotators or sources whose votes do not count.", metavar="NAME,..."),
]


@preferences_app.command("simulate")
def preferences_simulate(
    url: Annotated[str, typer.Argument(help="The address of a comparison page.")],
    name: Annotated[str, typer.Option(help="The annotator's name.")],
    rule: Annotated[
        str | None,
        typer.Option(help="shorter, longer, matches:PATTERN or lacks:PATTERN.", metavar="RULE"),
    ] = None,
    hamlet: Annotated[
        int | None,
        typer.Option(
            help="Prefer true and polite answers, by the village of this seed.", metavar="SEED"
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible model, http://HOST/v1#MODEL.", metavar="URL"),
    ] = None,
    criteria: Annotated[
        str | None, typer.Option(help="What the judge is to prefer, in plain words.")
    ] = None,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Share of votes cast at random.")] = 0,
    rate: Annotated[
        bool, typer.Option("--rate", help="Rate answers instead of comparing them.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="The most votes.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    as_json: Json = False,
) -> None:
    """Vote on a comparison page by a program until nothing is left, marked as simulated."""
    from foundling.base.config import ConfigError
    from foundling.preferences.endpoint import Endpoint
    from foundling.preferences.judging import CRITERIA, Judge
    from foundling.preferences.records import Kind
    from foundling.preferences.simulated import Simulated, VotingReport, vote_on_all
    from foundling.preferences.tastes import hamlet_taste
    from foundling.preferences.tastes import rule as taste_of

    if sum(given is not None for given in (rule, hamlet, judge)) != 1:
        raise ConfigError("give one of --rule RULE, --hamlet SEED and --judge URL.")
    if criteria is not None and judge is None:
        raise ConfigError("--criteria: only --judge uses it; leave it out.")
    if judge is not None and noise:
        raise ConfigError("--noise: not used with --judge; leave it out.")

    def tell(report: VotingReport) -> None:
        if report.num_votes % 100 == 0:
            say(f"{report.num_votes:,} votes")

    kind: Kind = "rating" if rate else "comparison"
    if judge is not None:
        endpoint = Endpoint.open(judge)
        try:
            model = Judge(endpoint, criteria or CRITERIA)
            report = vote_on_all(url, name, model, kind=kind, limit=limit, tell=tell)
        finally:
            endpoint.close()
        judged, lines = {"judge": model.report.values()}, model.report.lines()
    else:
        taste = taste_of(rule) if rule is not None else hamlet_taste(hamlet or 0)
        annotator = Simulated(taste, noise=noise, seed=seed)
        report = vote_on_all(url, name, annotator, kind=kind, limit=limit, tell=tell)
        judged, lines = {}, []
    for line in (*report.lines(), *lines):
        say(line)
    report_json({**report.values(), **judged}, as_json)


@preferences_app.command("stats")
def preferences_stats(
    db: Db,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write a page with figures to this folder.", metavar="DIR"),
    ] = None,
    who: ByWhom = "all",
    without: Without = "",
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Bootstrap draws for the intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Show which source wins, and how far the votes can be trusted."""
    from rich.console import Console

    from foundling.preferences.statistics import statistics
    from foundling.preferences.tables import notes, tables

    with _opened(db) as store:
        selection = _selection(who, without)
        found = statistics(store, selection=selection, bootstrap=bootstrap, seed=seed)
    counts = found["counts"]
    if not counts["comparisons"] and not counts["ratings"]:
        _refuse_empty(db, who, counts["pairs"])
    console = Console(stderr=as_json)
    for table in tables(found):
        console.print(table)
        console.print()
    for line in notes(found):
        say(line)
    if out is not None:
        from foundling.reports.preference_report import write_preference_report

        say(f"page: {write_preference_report(found, out, _name(db))}")
    report_json(found, as_json)


@preferences_app.command("export")
def preferences_export(
    db: Db,
    out: Annotated[Path, typer.Option(help="The file to write, .jsonl.", metavar="FILE")],
    format: Annotated[
        str, typer.Option(help="explicit_prompt, implicit_prompt, hh_rlhf or unpaired (KTO).")
    ] = "explicit_prompt",
    split: Annotated[
        float | None,
        typer.Option(help="Write this share of the pairs to FILE-validation, prompts whole."),
    ] = None,
    text: Annotated[
        bool,
        typer.Option("--text", help="Strings, not messages (explicit_prompt, unpaired)."),
    ] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Add annotators, reasons, strength and sources.")
    ] = False,
    who: ByWhom = "all",
    without: Without = "",
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
    as_json: Json = False,
) -> None:
    """Write preferences as a file to train on."""
    from foundling.base.config import ConfigError
    from foundling.preferences.exchange import export, write_rows

    if out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: give a file that ends in .jsonl.")
    if split is not None and not 0 < split < 1:
        raise ConfigError(f"--split {split:g}: must lie between 0 and 1; leave it out for none.")
    validation = out.with_name(f"{out.stem}-validation.jsonl")
    files = [out] if split is None else [out, validation]
    there = [file for file in files if file.exists()]
    if there and not overwrite:
        raise ConfigError(f"{there[0]}: exists already; give another --out, or --overwrite.")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: the folder {out.parent} does not exist; create it first.")
    with _opened(db) as store:
        made = export(
            store,
            format,
            text=text,
            details=details,
            validation_fraction=split or 0.0,
            seed=seed,
            selection=_selection(who, without),
        )
        num_pairs = len(store.pairs())
    if not made.report.num_pairs:
        _refuse_empty(db, who, num_pairs)
    for line in made.report.lines():
        say(line)
    if not made.train:
        raise ConfigError(f"{db}: no pair is left to train on; the lines above say why.")
    write_rows(out, made.train)
    if split is not None:
        write_rows(validation, made.validation)
    say(f"written: {', '.join(map(str, files))}")
    report_json({**made.report.values(), "files": [str(file) for file in files]}, as_json)


@preferences_app.command("import")
def preferences_import(
    inputs: Annotated[list[str], typer.Argument(help="Files of preferences.", metavar="FILE")],
    db: Annotated[
        str, typer.Option("--db", help="The database; created if missing.", metavar="DB")
    ],
    format: Annotated[str, typer.Option(help="auto, or the name of a format.")] = "auto",
    columns: Columns = "",
    annotator: Annotated[
        str, typer.Option(help="The annotator to record the votes under.")
    ] = "imported",
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="What to do with a row that cannot be read.")
    ] = "stop",
    seed: Annotated[int, typer.Option(help="Seed of which answer is A.")] = 0,
    as_json: Json = False,
) -> None:
    """Take preferences from files, as pairs and votes; importing a file twice is idempotent."""
    from foundling.data.columns import parse_columns
    from foundling.preferences.importing import import_preferences, read_preferences
    from foundling.preferences.store import PreferenceStore

    # A file that cannot be read must leave no new database behind.
    found = read_preferences(
        inputs,
        format=format,
        columns=parse_columns(columns),
        on_error=on_error,
        skip="--on-error skip",
    )
    with PreferenceStore.open(db) as store:
        report = import_preferences(store, *found, annotator=annotator, seed=seed)
    for line in report.lines():
        say(line)
    report_json(report.values(), as_json)


def _selection(who: "Who", without: str) -> "Selection":
    from foundling.preferences.selection import Selection

    return Selection(who, tuple(filter(None, map(str.strip, without.split(",")))))


def _opened(db: str) -> "PreferenceStore":
    from foundling.preferences.store import PreferenceStore

    return PreferenceStore.open(db, create=False)


def _refuse_empty(db: str, who: str, num_pairs: int) -> NoReturn:
    from foundling.base.config import ConfigError

    whose = "" if who == "all" else f" of {who}"
    raise ConfigError(
        f"{_name(db)}: holds {num_pairs:,} pairs and no vote{whose} yet; collect some first."
    )


def _name(db: str) -> str:
    """Without the password that a URL may hold."""
    return db.rpartition("@")[2] if "://" in db else Path(db).name
