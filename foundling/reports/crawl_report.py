"""Writes the report of a crawl: what each step removed, with examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundling.reports.page import draw, duration, write_page
from foundling.reports.style import BLUE, GREY, compact, horizontal, new_figure, show


def write_crawl_report(found: Mapping[str, Any], folder: Path) -> Path:
    """Write `plots/` and `report.html` of a crawl; return the page's path.

    Args:
        found: what `foundling.data.crawl` found, as in its `report.json`.
    """
    left = [(step["title"], step["documents"] - step["removed"]) for step in found["steps"]]
    funnel = [("pages", found["pages"]), *left]
    told = "; ".join(f"{title} {count:,}" for title, count in funnel)
    return write_page(
        folder,
        "crawl.html.j2",
        name=folder.resolve().name,
        found=found,
        cards=_cards(found),
        figure=draw(folder, "left", _funnel(funnel), f"Documents left after each step: {told}."),
    )


def _cards(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    share = found["documents"] / found["pages"] if found["pages"] else 0.0
    masked = sum(found["personal_data"].values())
    cards = [
        ("Pages", compact(found["pages"]), f"in {found['files']:,} files"),
        ("Documents", compact(found["documents"]), f"{share:.1%} of the pages"),
        ("Characters", compact(found["characters"]), "of text that is kept"),
        ("Masked", compact(masked), f"in {found['documents_masked']:,} documents"),
        ("Time", duration(sum(found["seconds"].values())), "summed over all tasks"),
    ]
    if found["store"]:
        tokens = found["store"]["train"]["tokens"] + found["store"]["validation"]["tokens"]
        cards.insert(3, ("Tokens", compact(tokens), f"of {found['store']['vocab_size']:,}"))
    return cards


def _funnel(left: list[tuple[str, int]]) -> Any:
    """Bars of the documents that are left after each step."""
    figure, axes = new_figure(
        "What is left after each step", "documents", "", height=0.9 + 0.36 * len(left), left=0.24
    )
    horizontal(axes)
    counts = [count for _, count in left]
    axes.barh(range(len(left)), counts, color=[GREY, *[BLUE] * (len(left) - 1)], height=0.62)
    axes.set_yticks(range(len(left)), [title for title, _ in left])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14 * max(1, *counts))
    for row, count in enumerate(counts):
        axes.text(count, row, f"  {compact(count)}", va="center", fontsize=11)
    show(axes.xaxis, compact)
    return figure
