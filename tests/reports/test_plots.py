"""The figures keep what matters: spikes, trends, scales; and they reach their files whole."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from foundling.reports.run_plots import (
    EVENT_MARKERS,
    UNDONE,
    Curve,
    downsample,
    ladder_bars,
    learning_rate_plot,
    loss_by_position_plot,
    loss_plot,
    smooth,
    smooth_positions,
    validation_curves,
)
from foundling.reports.style import (
    colours,
    compact,
    end_labels,
    inline_svg,
    new_figure,
    save,
)
from foundling.runs.records import ACTS, NOTES

STEPS = range(1, 401)
FALL = [3 + 6 / step**0.5 for step in STEPS]


def test_downsample_keeps_every_lone_spike_and_dip() -> None:
    x = np.arange(50_000.0)
    y = np.sin(x / 5000)
    y[[7, 12_345, 49_990]] = (40, -30, 50)
    few_x, few_y = downsample(x, y, buckets=300)
    assert len(few_x) <= 602
    assert {40, -30, 50} <= set(few_y)
    assert (np.diff(few_x) > 0).all()
    assert (few_x[0], few_x[-1]) == (0, 49_999)


def test_downsample_leaves_a_short_trace_as_it_is() -> None:
    x = np.arange(10.0)
    assert downsample(x, x**2, buckets=5) == (pytest.approx(x), pytest.approx(x**2))


def test_smooth_follows_the_trend_and_not_the_spikes() -> None:
    generator = np.random.default_rng(0)
    x = np.arange(1, 10_001.0)
    truth = 3 + 6 / x**0.5
    y = truth + generator.normal(0, 0.2, len(x))
    y[::500] += 50
    trend_x, trend = smooth(x, y)
    late = trend_x > 300
    assert np.abs(trend - (3 + 6 / trend_x**0.5))[late].max() < 0.06


def test_smooth_positions_is_exact_at_the_start_and_a_mean_later() -> None:
    y = np.array([9.0, 5, 4, 7, 1, 2, 3, 8, *([1, 3] * 60)])
    trend = smooth_positions(y)
    assert trend[:8].tolist() == y[:8].tolist()
    assert trend[70:] == pytest.approx(2, abs=0.1)


def test_a_spike_is_marked_and_does_not_set_the_scale() -> None:
    losses = [*FALL]
    losses[300] = 500.0
    losses[350] = float("nan")
    axes = loss_plot(Curve(STEPS, losses), Curve([], [])).axes[0]
    assert axes.get_ylim()[1] < 12
    arrows = next(line for line in axes.lines if line.get_marker() == "^")
    assert list(arrows.get_xdata()) == [301, 351]
    assert "off the scale (2)" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_plain_fall_has_no_spikes() -> None:
    axes = loss_plot(Curve(STEPS, FALL), Curve([100, 400], [4.0, 3.5])).axes[0]
    assert "^" not in [line.get_marker() for line in axes.lines]


def labels(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_events_are_marked_by_kind_acts_below_and_notes_above() -> None:
    kinds = {5: "skip", 9: "skip", 11: "transient"}
    events = [{"step": step, "kind": kind} for step, kind in kinds.items()]
    axes = loss_plot(Curve(STEPS, FALL), Curve([], []), events).axes[0]
    assert labels(axes) == ["training", "skip (2)", "transient"]
    assert sum(list(line.get_xdata()) == [5, 5] for line in axes.lines) == 1
    marks = {line.get_label(): line for line in axes.lines}
    assert list(marks["skip (2)"].get_xdata()) == [5, 9]
    assert list(marks["skip (2)"].get_ydata()) == [0, 0]
    assert list(marks["transient"].get_ydata()) == [1]
    assert marks["skip (2)"].get_color() != marks["transient"].get_color()


def test_every_kind_has_a_mark_of_its_own() -> None:
    assert set(EVENT_MARKERS) == {*ACTS, *NOTES}
    assert len({marker for marker, _, _ in EVENT_MARKERS.values()}) == len(EVENT_MARKERS)


def test_an_arrow_leads_back_and_those_that_overlap_lie_apart() -> None:
    ways = [(300, 200), (302, 200), (350, 310), (390, 389)]
    events = [{"step": step, "to": to, "kind": "rewind"} for step, to in ways]
    axes = loss_plot(Curve(STEPS, FALL), Curve([], []), events).axes[0]
    arrows = [text for text in axes.texts if isinstance(text, Annotation)]
    drawn = {(text.get_position()[0], text.xy[0]): text.xy[1] for text in arrows}
    assert set(drawn) == {(300, 200), (302, 200), (350, 310)}  # the last is shorter than its mark
    assert drawn[300, 200] != drawn[302, 200]
    assert drawn[350, 310] == min(drawn.values())


def test_what_was_undone_is_one_thin_line_a_stretch_and_leaves_the_scale() -> None:
    stood = loss_plot(Curve(STEPS, FALL), Curve([], [])).axes[0]
    stretches = [Curve([50, 51, 52], [3.8, 40.0, 4e9]), Curve([90, 91], [3.6, math.inf])]
    axes = loss_plot(Curve(STEPS, FALL), Curve([], []), [], stretches).axes[0]
    lines = [line for line in axes.lines if line.get_color() == UNDONE]
    assert [list(line.get_xdata()) for line in lines] == [[50, 51, 52], [90, 91]]
    assert labels(axes).count("undone") == 1
    trend = next(line for line in axes.lines if line.get_label() == "training")
    assert all(line.get_linewidth() < trend.get_linewidth() for line in lines)
    low, high = axes.get_ylim()
    assert all(line.get_ydata()[-1] > high for line in lines)
    assert np.isfinite([value for line in lines for value in line.get_ydata()]).all()
    usual_low, usual_high = stood.get_ylim()
    assert low == usual_low
    # Headroom for the explosion to be seen, and no more.
    assert 1.3 < (high - low) / (usual_high - usual_low) < 1.4


def test_a_small_rise_that_was_undone_is_seen_whole() -> None:
    usual = loss_plot(Curve(STEPS, FALL), Curve([], [])).axes[0].get_ylim()[1]
    curve = Curve([200, 201], [3.4, usual + 0.5])
    high = loss_plot(Curve(STEPS, FALL), Curve([], []), [], [curve]).axes[0].get_ylim()[1]
    assert usual + 0.5 < high < usual + 0.6


def test_the_legend_hides_no_line_where_lines_may_lead_anywhere() -> None:
    events = [{"step": 9, "kind": kind} for kind in EVENT_MARKERS]
    figure = loss_plot(
        Curve(STEPS, [*FALL[:-9], 500.0, *FALL[-8:]]), Curve([9], [4.0]), events,
        [Curve([50, 51], [3.8, 40.0])], title="Loss",
    )  # fmt: skip
    figure.draw_without_rendering()
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert len(labels(axes)) == 10
    box = legend.get_window_extent()
    assert box.y0 >= axes.get_window_extent().y1
    assert box.y1 <= figure.texts[0].get_window_extent().y0
    assert box.x0 >= 0


def test_labels_name_their_units() -> None:
    axes = loss_plot(Curve(STEPS, FALL), Curve([1], [4]), bits_per_nat=0.4).axes[0]
    assert axes.get_ylabel() == "nats per token"
    right = axes.child_axes[0]
    assert right.get_ylabel() == "bits per byte"
    right.figure.draw_without_rendering()
    assert right.get_ylim() == pytest.approx(np.array(axes.get_ylim()) * 0.4)


@pytest.mark.parametrize("values", [[], [float("nan")], [2.5], [2.5, None, 2.4]])
def test_every_figure_draws_with_few_values(values: list[float | None]) -> None:
    steps = range(1, len(values) + 1)
    known = [value for value in values if value is not None]
    figures = [
        loss_plot(Curve(steps, values), Curve(steps, values)),
        loss_plot(Curve([], []), Curve(steps, values)),
        loss_plot(Curve(steps, values), Curve([], [])),
        learning_rate_plot([Curve(steps, values, "adamw"), Curve(steps, values, "muon")]),
        loss_by_position_plot({"a": known, "b": known}),
        ladder_bars({str(i): value for i, value in enumerate(known)}, "bits per byte"),
        validation_curves([Curve(steps, values, "a")], "nats per token"),
    ]
    for figure in figures:
        figure.draw_without_rendering()


@pytest.mark.parametrize("count", range(1, 8))
def test_each_bar_of_a_ladder_has_its_name_once(count: int) -> None:
    names = [f"rung {n}" for n in range(count)]
    axes = ladder_bars(dict.fromkeys(names, 2.0), "bits per byte").axes[0]
    low, high = sorted(axes.get_ylim())
    shown = [
        label.get_text()
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low <= place <= high
    ]
    assert shown == names
    middles = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
    assert list(axes.get_yticks()) == pytest.approx(middles)


def test_a_curve_from_step_zero_fits_a_logarithmic_axis() -> None:
    axes = validation_curves(
        [Curve([0, 10, 1000], [9, 5, 3], "transformer")], "nats per token"
    ).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (10, 1000)


def test_end_labels_do_not_overlap_nor_leave_the_figure() -> None:
    _, axes = new_figure("", "", "")
    axes.set_ylim(0, 1)
    end_labels(axes, [(str(i), 0.98, "#000000") for i in range(5)])
    heights = sorted(float(text.get_position()[1]) for text in axes.texts)
    assert np.diff(heights).min() > 0.07
    assert heights[-1] <= 1


def test_a_rung_keeps_its_colour() -> None:
    assert colours(["attention"])[0] == colours(["next_word", "x", "attention"])[2]
    assert len(set(colours(["transformer", "attention", "a", "b", "c"]))) == 5


def test_save_writes_both_files_the_same_each_time(tmp_path: Path) -> None:
    def draw(folder: str) -> str:
        return save(loss_plot(Curve(STEPS, FALL), Curve([9], [4.0])), tmp_path / folder / "loss")

    svg = draw("a")
    assert svg == draw("b") == (tmp_path / "a" / "loss.svg").read_text("utf-8")
    png = (tmp_path / "a" / "loss.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert png == (tmp_path / "b" / "loss.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["loss.png", "loss.svg"]


def test_inline_svg_is_well_formed_themed_and_described(tmp_path: Path) -> None:
    svg = inline_svg(save(loss_plot(Curve(STEPS, FALL), Curve([9], [4.0])), tmp_path / "l"), 'a<"b')
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'a<"b'
    assert "var(--c0072b2)" in svg
    assert "#0072b2" not in svg
    assert "http" not in svg
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert ids
    assert len(ids) == len(set(ids))
    used = {element.attrib["href"] for element in root.iter() if "href" in element.attrib}
    assert used <= {f"#{name}" for name in ids}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1200, "1,200"),
        (12_500, "12.5k"),
        (999_999, "1M"),
        (3e6, "3M"),
        (2.5e9, "2.5B"),
        (0.25, "0.25"),
    ],
)
def test_compact(value: float, text: str) -> None:
    assert compact(value) == text
