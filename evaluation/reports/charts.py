"""Line charts, and differences with their intervals: readable in colour, by colour-blind people and in grey print."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from evaluation.reports.tables import read_rows

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#777777"
"""The first two are Okabe and Ito's, which everybody can tell apart."""
# The rest of their palette, without yellow, which vanishes on white; line styles tell curves apart in grey print.
_COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINE_STYLES = ("-", "--", "-.", ":")
_LABEL_GAP = 0.075  # of the height of the axes: a line of text


class Curve(NamedTuple):
    """One line of a chart, with a band around it if `low` and `high` are given."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def curves_svg(
    curves: Sequence[Curve], x_label: str, y_label: str, logarithmic: bool = False, scale_from: float = 0.0
) -> bytes:
    """Draws lines as SVG, equal input giving equal bytes; several are named at their right ends.

    Labels are name and unit; y may be drawn on a logarithmic scale. Points before the share `scale_from` of the x axis,
    [0, 1), do not widen the y axis: the steep beginning of a training would hide all later differences. ValueError
    where there are no curves or their lists differ in length.
    """
    if not curves or any(len(values) != len(c.x) for c in curves for values in (c.y, c.low or c.y, c.high or c.y)):
        raise ValueError("a chart needs at least one curve, each with as many x as y values")
    with rc_context({"font.size": 10}):
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for index, curve in enumerate(curves):
            _draw(axes, curve, index)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if logarithmic:
            axes.set_yscale("log")
        elif scale_from == 0 and all(float(y).is_integer() for curve in curves for y in curve.y):  # counts
            axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        if scale_from > 0:
            _scale_to_later_points(axes, curves, scale_from)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(curves) > 1:
            _name_ends(axes, curves)
        return svg_of(figure)


class CurvePanel(NamedTuple):
    """Lines of one chart among several."""

    curves: Sequence[Curve]
    """The same in all panels, by name and order: the first has the legend."""
    y_label: str
    """Name and unit of y."""


def curve_panels_svg(panels: Sequence[CurvePanel], x_label: str) -> bytes:
    """Draws charts below one another over the same x, which is above 0 and on a logarithmic scale, as SVG; equal input
    gives equal bytes. ValueError where there is nothing to draw."""
    if not panels or not all(panel.curves for panel in panels):
        raise ValueError("a drawing needs at least one panel, and a curve in each")
    with rc_context({"font.size": 10}):
        figure = Figure(figsize=(7.6, 2.2 * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            for index, curve in enumerate(panel.curves):
                _draw(axes, curve, index)
            axes.set_ylabel(panel.y_label)
            axes.grid(color="#dddddd", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        grid[0].legend(grid[0].lines, [curve.label for curve in panels[0].curves], frameon=False)
        grid[-1].set_xlabel(x_label)
        return svg_of(figure)


def svg_of(figure: Figure) -> bytes:
    """A figure of matplotlib as SVG, equal ones as equal bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "report"}):  # else the names inside differ from time to time
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Moves places within [0, 1] apart by a gap, in their order, as little as one pass upwards and one downwards
    achieve; where not all fit, they keep it and reach below 0. Gives new places in the order of the input."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [min(max(places[index], 0.0), 1.0) for index in order]
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    highest = 1.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], highest)
        highest = moved[index] - gap
    result = [0.0] * len(places)
    for index, place in zip(order, moved, strict=True):
        result[index] = place
    return result


def _style(index: int) -> dict[str, Any]:
    return {"color": _COLOURS[index % len(_COLOURS)], "linestyle": _LINE_STYLES[index % len(_LINE_STYLES)]}


def _draw(axes: Axes, curve: Curve, index: int) -> None:
    marker = "o" if len(curve.x) == 1 else None
    axes.plot(curve.x, curve.y, marker=marker, linewidth=1.6, **_style(index))
    if curve.low and curve.high:
        axes.fill_between(curve.x, curve.low, curve.high, color=_style(index)["color"], alpha=0.18, linewidth=0)


def _scale_to_later_points(axes: Axes, curves: Sequence[Curve], scale_from: float) -> None:
    """Sets the y axis to the points that lie far enough to the right."""
    first = scale_from * max((x for curve in curves for x in curve.x), default=0.0)
    shown = [
        value
        for curve in curves
        for values in filter(len, (curve.y, curve.low, curve.high))
        for x, value in zip(curve.x, values, strict=True)
        if x >= first
    ]
    if shown:
        margin = 0.06 * (max(shown) - min(shown)) or 0.05 * abs(max(shown)) or 1.0
        axes.set_ylim(min(shown) - margin, max(shown) + margin)


def _name_ends(axes: Axes, curves: Sequence[Curve]) -> None:
    """Writes each name beside the last point of its line, with a connection in the line's colour and style."""
    axes.autoscale_view()  # else the transformation still is that of empty axes
    named = [(index, curve) for index, curve in enumerate(curves) if len(curve.x)]
    to_fraction = axes.transData + axes.transAxes.inverted()
    ends = [to_fraction.transform((curve.x[-1], curve.y[-1])) for _, curve in named]
    for (index, curve), end, place in zip(named, ends, spread([e[1] for e in ends], _LABEL_GAP), strict=True):
        axes.annotate(
            curve.label,
            xy=(end[0], end[1]),
            xytext=(1.06, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "shrinkA": 2,
                "shrinkB": 0,
                "relpos": (0.0, 0.5),
                "linewidth": 1.2,
                **_style(index),
            },
        )


def run_curves(path: Path, names: Sequence[str]) -> list[Curve]:
    """Reads columns of train.csv or validation.csv over images seen: one curve per column that is there, named in
    words, points without a value left out. FileNotFoundError or ValueError where there is no such file, or it is
    damaged or has none of the columns."""
    curves = columns_of(path, names)
    if not curves:
        raise ValueError(f"{path} has none of the columns {', '.join(names)}; was the run shorter than its log rhythm?")
    return [curve._replace(label=column_in_words(curve.label)) for curve in curves]


def column_in_words(column: str) -> str:
    """A column of a run's tables for readers: "generator: l1", or whose faces a figure of validation is about."""
    place, _, term = column.partition("/")
    faces = {"validation": "restored faces", "degraded": "degraded faces"}
    return faces.get(place, f"{place}: {term.replace('_', ' ')}")


def columns_of(path: Path, names: Sequence[str]) -> list[Curve]:
    """Like `run_curves`, but the list may be empty."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; give the folder of a run that has written a row")
    rows = read_rows(path)
    curves = []
    for name in names:
        points = [(float(images_seen), float(row[name])) for images_seen, row in rows.items() if row.get(name)]
        if points:
            curves.append(Curve(name, [x for x, _ in points], [y for _, y in points]))
    return curves


Interval = tuple[float, float]
ROW_INCHES, PANEL_INCHES = 0.26, 0.85
"""Height of a row, and of a panel without rows."""


class ForestRow(NamedTuple):
    """One difference."""

    label: str
    mean: float
    narrow: Interval | None
    """Drawn as a thick line; None where there is none."""
    wide: Interval | None
    """Drawn as a thin line with ends."""
    is_certain: bool
    """Filled marker, in colour; else hollow and grey."""


class ForestPanel(NamedTuple):
    """The differences in one metric."""

    x_label: str
    """What is drawn, its unit and which side is better."""
    rows: Sequence[ForestRow]


def forest_svg(panels: Sequence[ForestPanel]) -> bytes:
    """Draws panels below one another as SVG, each with its own scale and a line at 0; equal input gives equal bytes.
    ValueError where there is nothing to draw."""
    if not panels or not all(panel.rows for panel in panels):
        raise ValueError("a forest plot needs at least one panel, and a difference in each")
    heights = [PANEL_INCHES + ROW_INCHES * len(panel.rows) for panel in panels]
    with rc_context({"font.size": 10}):
        figure = Figure(figsize=(7.6, sum(heights)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for axes, panel in zip(grid[:, 0], panels, strict=True):
            _draw_differences(axes, panel)
        return svg_of(figure)


def _draw_differences(axes: Axes, panel: ForestPanel) -> None:
    axes.axvline(0, color="black", linewidth=0.8)
    for place, row in enumerate(panel.rows):
        colour = BLUE if row.is_certain else GREY
        if row.wide is not None:
            axes.plot(row.wide, (place, place), "|-", color=colour, linewidth=1.2, markersize=7)
        if row.narrow is not None:
            axes.plot(row.narrow, (place, place), color=colour, linewidth=3.5, alpha=0.55, solid_capstyle="butt")
        axes.plot(row.mean, place, "o", color=colour, markerfacecolor=colour if row.is_certain else "white")
    axes.set_yticks(range(len(panel.rows)), [row.label for row in panel.rows])
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.set_xlabel(panel.x_label)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
