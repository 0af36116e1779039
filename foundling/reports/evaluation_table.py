"""The terminal's table of an evaluation: the headline metrics, a column per model."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from foundling.reports.in_words import (
    NOTHING,
    against_chance,
    ends_text,
    span,
    value_text,
)
from foundling.reports.names import LONGEST_NAME, cut, short_names

AT_CHANCE = "°"
NARROW = 8  # characters of a column where there are many: six models and their figures in 80
MOST_BESIDE = 3  # models that leave room for intervals beside figures; with more they stand below


def headlines(content: Mapping[str, Any]) -> Table:
    """The headline metrics of each probe, from the output of `results`."""
    names = [subject["name"] for subject in content["subjects"]]
    short = short_names(names)
    caption = f"with the 95% interval; {AT_CHANCE} it interval holds chance; ↑ ↓ what is better"
    is_narrow = len(names) > MOST_BESIDE
    table = Table(
        caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("", overflow="fold")
    for name in names:
        # Text, not str: rich reads [words] in a str as markup.
        head = Text(cut(short[name], 2 * NARROW if is_narrow else LONGEST_NAME))
        table.add_column(
            head, justify="right", overflow="fold", width=NARROW if is_narrow else None
        )
    if not is_narrow:
        table.add_column("chance", justify="right")
    for probe in content["probes"]:
        metrics = [metric for metric in probe["metrics"] if metric["headline"]]
        if not metrics:
            continue
        table.add_row(Text(probe["title"], style="bold"))
        for metric in metrics:
            known = [metric["values"].get(name) for name in names]
            chance = span(
                [v["chance"] for v in known if v and v["chance"] is not None], metric["unit"]
            )
            arrow = {"high": " ↑", "low": " ↓"}.get(metric["good"], "")
            beside = [] if is_narrow else [chance]
            below = f" (chance {chance})" if is_narrow and chance != NOTHING else ""
            table.add_row(
                Text(f"  {metric['title']}{arrow}{below}"),
                *(_cell(values, metric, is_narrow) for values in known),
                *beside,
                end_section=metric is metrics[-1],
            )
    return table


def _cell(values: Mapping[str, Any] | None, metric: Mapping[str, Any], is_narrow: bool) -> Text:
    """A value such as 62.5% (59.4 – 65.6), marked where its interval contains chance."""
    if values is None or values["value"] is None:
        return Text(NOTHING, style="dim")
    ends = ends_text(values, metric["unit"], short=is_narrow)
    beside = f"\n{ends}" if is_narrow else f" ({ends})"
    verdict = against_chance(values, metric["good"])
    is_chance = verdict is not None and verdict.text == "at chance"
    text = value_text(values, metric["unit"]) + (beside if ends else "")
    style = {"good": "green", "bad": "red"}.get(verdict.tone, "") if verdict else ""
    return Text(text + (AT_CHANCE if is_chance else " "), style="dim" if is_chance else style)
