"""Makes the terminal's table of an evaluation: the headline figures, a column a model."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from foundling.evaluation.names import cut, short_names
from foundling.evaluation.wording import (
    NOTHING,
    against_chance,
    half_width,
    number,
    value_text,
)

AT_CHANCE = "°"


def headlines(content: Mapping[str, Any]) -> Table:
    """The headline metrics of each probe, of what `results` gives."""
    names = [subject["name"] for subject in content["subjects"]]
    short = short_names(names)
    caption = f"± half the 95% interval; {AT_CHANCE} the interval holds chance; ↑ ↓ what is better"
    table = Table(caption=caption, caption_justify="left")
    table.add_column("")
    for name in names:
        # Text, not str: rich reads [words] in a str as markup.
        table.add_column(Text(cut(short[name])), justify="right", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    for probe in content["probes"]:
        metrics = [metric for metric in probe["metrics"] if metric["headline"]]
        if not metrics:
            continue
        table.add_row(Text(probe["title"], style="bold"))
        for metric in metrics:
            known = [metric["values"].get(name) for name in names]
            chances = [v["chance"] for v in known if v and v["chance"] is not None]
            arrow = {"high": " ↑", "low": " ↓"}.get(metric["good"], "")
            table.add_row(
                Text(f"  {metric['title']}{arrow}"),
                *(_cell(values, metric) for values in known),
                number(chances[0], metric["unit"]) if chances else NOTHING,
                end_section=metric is metrics[-1],
            )
    return table


def _cell(values: Mapping[str, Any] | None, metric: Mapping[str, Any]) -> Text:
    """A figure as in 62.5% ± 3.1, with a mark where it may be chance."""
    if values is None or values["value"] is None:
        return Text(NOTHING, style="dim")
    half = half_width(values, metric["unit"])
    verdict = against_chance(values, metric["good"])
    is_chance = verdict is not None and verdict.text == "at chance"
    text = value_text(values, metric["unit"]) + (f" ± {half}" if half else "")
    style = {"good": "green", "bad": "red"}.get(verdict.tone, "") if verdict else ""
    return Text(text + (AT_CHANCE if is_chance else " "), style="dim" if is_chance else style)
