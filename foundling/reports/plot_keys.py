"""How a model is drawn in every figure of an evaluation, and the legend that says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from foundling.reports.names import cut
from foundling.reports.style import INK, MARKERS, PALETTE, WIDTH

FONT = FontProperties(size=11)
Key = tuple[Line2D, str]


@dataclass(frozen=True)
class Model:
    """The short name, colour and marker of a model in all figures."""

    name: str
    colour: str
    marker: str


def drawn_models(short: Mapping[str, str]) -> dict[str, Model]:
    """A colour and a marker for each model, by its full name."""
    return {
        name: Model(text, PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)])
        for place, (name, text) in enumerate(short.items())
    }


def model_key(model: Model) -> Key:
    line = Line2D([], [], color=model.colour, marker=model.marker, linewidth=2.1, markersize=6.5)
    return line, cut(model.name, 30)


def _key_rows(keys: Sequence[Key]) -> list[list[Key]]:
    """The keys in rows that fit the width."""
    rows: list[list[Key]] = []
    used = 0.0
    for key in keys:
        width = _key_width(key)
        if not rows or used + width > WIDTH - 0.2:
            rows.append([])
            used = 0.0
        rows[-1].append(key)
        used += width
    return rows


def _key_width(key: Key) -> float:
    """The width in inches, with the line before it and the gap after it."""
    width, _, _ = text_to_path.get_text_width_height_descent(key[1], FONT, ismath=False)
    return 0.62 + float(width) / 72


def legend_height(keys: Sequence[Key]) -> float:
    return 0.25 * len(_key_rows(keys)) + 0.06


def legend_above(figure: Figure, keys: Sequence[Key]) -> None:
    """The keys below the title; by hand, since matplotlib's legend leaves out names like _a."""
    height = figure.get_figheight()
    axes = figure.add_axes((0, 0, 1, 1), facecolor="none")
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, height)
    for row, keys_of in enumerate(_key_rows(keys)):
        x, y = 0.14, height - 0.56 - 0.25 * row
        for line, text in keys_of:
            line.set_data((x + 0.02, x + 0.17, x + 0.32), (y, y, y))
            if line.get_linestyle() == "None":
                line.set_data((x + 0.17,), (y,))
            else:
                line.set_markevery([1])
            axes.add_line(line)
            axes.text(
                x + 0.4, y, text, fontproperties=FONT, color=INK, va="center", parse_math=False
            )
            x += _key_width((line, text))
