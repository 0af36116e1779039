"""Writes a report: its figures to `plots/`, its page as one self-contained file."""

import unicodedata
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.reports.style import compact, inline_svg, save, theme_variables
from foundling.runs.records import is_number

UNSHOWABLE = ("Cc", "Cs")  # Unicode's categories: control characters, halves of a pair


def existing(path: Path, kind: str) -> Path:
    """`path`, if it is there.

    Raises:
        ConfigError: it is not.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file; is {path.parent} a {kind} folder?")
    return path


def draw(folder: Path, stem: str, figure: Figure, description: str) -> Markup:
    """Save `figure` among the folder's plots; return it ready for the page."""
    return Markup(inline_svg(save(figure, folder / "plots" / stem), description))


def page(template: str, **values: Any) -> str:
    """Render a self-contained page."""
    environment = Environment(
        loader=PackageLoader("foundling.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "compact": compact,
        "duration": duration,
        "figure": _table_figure,
        "visible": visible,
    }
    environment.globals |= {"theme": theme_variables}
    return environment.get_template(template).render(**values)


def write_page(folder: Path, template: str, **values: Any) -> Path:
    """Write the page as `report.html` of the folder; return its path."""
    durable.replace(folder / "report.html", page(template, **values).encode("utf-8"))
    return folder / "report.html"


def duration(seconds: int | float) -> str:
    """A time in short form: 8.3 s · 12 min 5 s · 2 h 45 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def visible(text: str) -> str:
    """The text with a replacement mark for each character that no page can show."""
    return "".join(
        "\ufffd" if unicodedata.category(letter) in UNSHOWABLE and letter not in "\n\t" else letter
        for letter in text
    )


def _table_figure(value: object, style: str = "") -> str:
    """A number for a table, or a dash where there is none."""
    if not is_number(value):
        return "–"
    if style == "duration":
        return duration(value)
    return style % value if style else compact(round(value))
