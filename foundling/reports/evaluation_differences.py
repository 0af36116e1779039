"""The terminal's table of differences between models: the headline metrics of an evaluation."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from foundling.reports.in_words import interval_text, value_text
from foundling.reports.names import LONGEST_NAME, cut, short_names

MOST_PAIRS = 3
"""With more pairs of models the terminal has each model beside the first alone."""


def differences(content: Mapping[str, Any]) -> Table:
    """How models differ item by item, from the output of `results`; empty for one model."""
    short = short_names([subject["name"] for subject in content["subjects"]])
    first = content["subjects"][0]["name"]
    table = Table(
        caption="p: a permutation test on paired items; all headline figures together (Holm)",
        caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for title in ("difference", "95% interval", "p-value"):
        table.add_column(title, justify="left" if title == "difference" else "right")
    headlines = [m for probe in content["probes"] for m in probe["metrics"] if m["headline"]]
    for metric in headlines:
        pairs = metric["differences"]
        if len(pairs) > MOST_PAIRS:
            pairs = [one for one in pairs if one["first"] == first]
        for one in pairs:
            a, b = (cut(short[one[side]], LONGEST_NAME) for side in ("first", "second"))
            value = value_text(one, metric["unit"])
            table.add_row(
                Text(f"{metric['title']}: {b} − {a} = {value}"),
                interval_text(one, metric["unit"]),
                _p_value(one["adjusted_p_value"]),
            )
    return table


def _p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
