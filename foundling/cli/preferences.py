"""The verbs about preferences: what was said, in and out of files, and by programs."""

from typing import Annotated

import typer

from foundling.cli.app import Json, app, report_json, say

preferences_app = typer.Typer(
    help="Comparisons of answers: what they say, in and out of files.", no_args_is_help=True
)
app.add_typer(preferences_app, name="preferences")


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
        typer.Option(help="True and polite answers, by the village of this seed.", metavar="SEED"),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible model, http://HOST/v1#MODEL.", metavar="URL"),
    ] = None,
    criteria: Annotated[
        str | None, typer.Option(help="What a judge is to prefer, in its own words.")
    ] = None,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Share of votes cast at random.")] = 0,
    rate: Annotated[bool, typer.Option("--rate", help="Rate answers, compare none.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="The most votes.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    as_json: Json = False,
) -> None:
    """Vote on a comparison page as a program, marked as simulated, until nothing is left."""
    from foundling.config import ConfigError
    from foundling.preferences.endpoint import Endpoint
    from foundling.preferences.judging import CRITERIA, Judge
    from foundling.preferences.records import Kind
    from foundling.preferences.simulated import Simulated, VotingReport, vote_on_all
    from foundling.preferences.tastes import hamlet_taste
    from foundling.preferences.tastes import rule as taste_of

    if sum(given is not None for given in (rule, hamlet, judge)) != 1:
        raise ConfigError("give one of --rule RULE, --hamlet SEED and --judge URL.")
    if criteria is not None and judge is None:
        raise ConfigError("--criteria: only --judge reads it; leave it out.")
    if judge is not None and noise:
        raise ConfigError("--noise: a judge has its own; leave it out.")

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
