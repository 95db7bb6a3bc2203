"""Differences with their intervals, one below the other: what is certain and what is not, at a glance."""

import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Interval = tuple[float, float]
BLUE, GREY = "#0072B2", "#777777"
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
    """From top to bottom."""


def forest_svg(panels: Sequence[ForestPanel]) -> bytes:
    """Draws panels below one another, each with its own scale and a line at 0; equal input gives equal bytes.

    Args:
        panels: At least one, each with at least one row.

    Returns:
        SVG.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not panels or not all(panel.rows for panel in panels):
        raise ValueError("a forest plot needs at least one panel, and a difference in each")
    heights = [PANEL_INCHES + ROW_INCHES * len(panel.rows) for panel in panels]
    with rc_context({"svg.hashsalt": "report", "font.size": 10}):
        figure = Figure(figsize=(7.6, sum(heights)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for axes, panel in zip(grid[:, 0], panels, strict=True):
            _draw(axes, panel)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw(axes: Axes, panel: ForestPanel) -> None:
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
