"""One self-contained HTML page: text, tables, pictures and curves that need nothing but a browser or a printer."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from atomic_file import write_atomically
from evaluation.pictures import Picture, png_bytes

# Okabe and Ito's palette (without yellow, which vanishes on white); line styles tell curves apart in grey print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINE_STYLES = ("-", "--", "-.", ":")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .6rem; }
h2 { border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #444; padding-bottom: .3rem; }
th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #444; }
pre { background: #f4f4f4; padding: .7rem 1rem; overflow-x: auto; white-space: pre-wrap; }
@media print {
  body { margin: 0; max-width: none; font-size: 11pt; }
  pre { border: 1px solid #ccc; }
  h2, h3 { break-after: avoid; }
}
"""


class Curve(NamedTuple):
    """One line of a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


class Report:
    """Collects the parts of a page from top to bottom; every text is escaped."""

    def __init__(self, title: str) -> None:
        """Args:
        title: Heading of the page.
        """
        self.title = title
        self._parts: list[str] = []

    def add_heading(self, text: str) -> None:
        """Begins a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def add_paragraph(self, text: str) -> None:
        """Adds running text."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def add_commands(self, text: str) -> None:
        """Adds lines to be typed or read as they are."""
        self._parts.append(f"<pre>{escape(text.strip())}</pre>")

    def add_table(self, header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
        """Adds a table; columns that hold numbers only, but for the first, are set flush right.

        Args:
            header: Names of the columns.
            rows: Cells as they should be read; numbers already formatted.
            caption: Written over it.

        Raises:
            ValueError: If a row has another number of cells than the header.
        """
        wrong = next((row for row in rows if len(row) != len(header)), None)
        if wrong is not None:
            raise ValueError(f"every row of a table needs {len(header)} cells like its header, got {len(wrong)}")
        numeric = [i > 0 and bool(rows) and all(_begins_as_number(row[i]) for row in rows) for i in range(len(header))]
        lines = [_table_row("th", header, numeric), *(_table_row("td", row, numeric) for row in rows)]
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        self._parts.append(f"<table>{title}\n" + "\n".join(lines) + "\n</table>")

    def add_picture(self, picture: Picture, caption: str, width_pixels: int | None = None) -> None:
        """Adds a picture, stored losslessly inside the page.

        Args:
            picture: uint8 [H, W, 3].
            caption: What it shows; also read out by screen readers.
            width_pixels: On the screen; None takes the picture's own width.
        """
        self._add_figure("image/png", png_bytes(picture), caption, width_pixels or picture.shape[1])

    def add_curves(
        self, curves: Sequence[Curve], x_label: str, y_label: str, caption: str, logarithmic: bool = False
    ) -> None:
        """Adds a chart whose lines differ in colour (safe for colour-blind readers) and in style (safe in grey print).

        Args:
            curves: Lines with their names; x and y of equal length.
            x_label: Name and unit of x.
            y_label: Name and unit of y.
            caption: What it shows.
            logarithmic: Whether y is drawn on a logarithmic scale.

        Raises:
            ValueError: If there are no curves or x and y differ in length.
        """
        self._add_figure("image/svg+xml", curves_svg(curves, x_label, y_label, logarithmic), caption, 760)

    def add_svg(self, drawing: bytes, caption: str, width_pixels: int = 760) -> None:
        """Adds a drawing made elsewhere; its caption is also read out by screen readers."""
        self._add_figure("image/svg+xml", drawing, caption, width_pixels)

    def html(self) -> str:
        """The whole page."""
        body = "\n".join(self._parts)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n"
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(self.title)}</h1>\n{body}\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Writes the page atomically and returns its path."""
        return write_atomically(path, self.html())

    def _add_figure(self, media_type: str, content: bytes, caption: str, width_pixels: int) -> None:
        source = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
        text = escape(caption)
        self._parts.append(
            f'<figure><img src="{source}" width="{width_pixels}" alt="{text}"><figcaption>{text}</figcaption></figure>'
        )


def curves_svg(curves: Sequence[Curve], x_label: str, y_label: str, logarithmic: bool = False) -> bytes:
    """Draws lines as SVG, equal input giving equal bytes; arguments and errors as in `Report.add_curves`."""
    if not curves or any(len(curve.x) != len(curve.y) for curve in curves):
        raise ValueError("a chart needs at least one curve, each with as many x as y values")
    with rc_context({"svg.hashsalt": "report", "font.size": 10}):
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for index, curve in enumerate(curves):
            axes.plot(
                curve.x,
                curve.y,
                label=curve.label,
                color=_COLOURS[index % len(_COLOURS)],
                linestyle=_LINE_STYLES[index % len(_LINE_STYLES)],
                marker="o" if len(curve.x) == 1 else None,
                linewidth=1.6,
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if logarithmic:
            axes.set_yscale("log")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(curves) > 1:
            axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _begins_as_number(cell: object) -> bool:
    """Whether a cell reads as a number, perhaps with an interval or unit after it; a dash stands for a missing one."""
    text = str(cell).strip()
    return text in ("–", "-") or text.lstrip("+-−")[:1].isdigit()


def _table_row(tag: str, cells: Sequence[object], numeric: Sequence[bool]) -> str:
    classes = [' class="number"' if is_number else "" for is_number in numeric]
    filled = [f"<{tag}{c}>{escape(str(cell))}</{tag}>" for cell, c in zip(cells, classes, strict=True)]
    return f"<tr>{''.join(filled)}</tr>"
