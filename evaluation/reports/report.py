"""Reports of text, tables, pictures and curves: one HTML page that needs nothing but a browser, or parts to render."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from evaluation.reports.charts import Curve, curves_svg
from evaluation.reports.pictures import Picture, png_bytes
from system.atomic_file import write_atomically

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
summary { cursor: pointer; }
pre { background: #f4f4f4; padding: .7rem 1rem; overflow-x: auto; white-space: pre-wrap; }
@media print {
  body { margin: 0; max-width: none; font-size: 11pt; }
  pre { border: 1px solid #ccc; }
  h2, h3 { break-after: avoid; }
}
"""


@dataclass(frozen=True)
class Heading:
    """Begins a section."""

    text: str
    level: int = 2
    """2 for a section, 3 for one inside it."""


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of short texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Commands:
    """Lines to be typed or read as they are."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells as they should be read."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    is_numeric: tuple[bool, ...]
    """Which columns are set flush right."""


@dataclass(frozen=True)
class Drawing:
    """A picture or chart."""

    suffix: str
    """png or svg."""
    content: bytes
    """Of the file."""
    caption: str
    width_pixels: int
    name: str
    """Of a file for it, without suffix; may be empty."""


@dataclass(frozen=True)
class Folded:
    """A long text that a page shows on demand and that lies in a file as well."""

    title: str
    text: str
    file: str
    """Beside the report, with `/` between its parts."""


Part = Heading | Paragraph | Bullets | Commands | Table | Drawing | Folded


class Report:
    """Collects the parts of a page from top to bottom; every text is escaped when it is rendered."""

    def __init__(self, title: str) -> None:
        """Args:
        title: Heading of the page.
        """
        self.title = title
        self.parts: list[Part] = []

    def add_heading(self, text: str, level: int = 2) -> None:
        """Begins a section (level 2) or one inside it (3)."""
        self.parts.append(Heading(text, level))

    def add_paragraph(self, text: str) -> None:
        """Adds running text."""
        self.parts.append(Paragraph(text))

    def add_list(self, texts: Sequence[str]) -> None:
        """Adds a list of short texts."""
        self.parts.append(Bullets(tuple(texts)))

    def add_commands(self, text: str) -> None:
        """Adds lines to be typed or read as they are."""
        self.parts.append(Commands(text.strip()))

    def add_folded(self, title: str, text: str, file: str) -> None:
        """Adds a long text that the page shows on demand and that also lies in a file beside it."""
        self.parts.append(Folded(title, text.strip(), file))

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
        cells = tuple(tuple(map(str, row)) for row in rows)
        self.parts.append(Table(tuple(header), cells, caption, tuple(numeric)))

    def add_picture(self, picture: Picture, caption: str, width_pixels: int | None = None, name: str = "") -> None:
        """Adds a picture, stored losslessly.

        Args:
            picture: uint8 [H, W, 3].
            caption: What it shows; also read out by screen readers.
            width_pixels: On the screen; None takes the picture's own width.
            name: Of a file for it, without suffix.
        """
        self.parts.append(Drawing("png", png_bytes(picture), caption, width_pixels or picture.shape[1], name))

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
        self.add_svg(curves_svg(curves, x_label, y_label, logarithmic), caption)

    def add_svg(self, drawing: bytes, caption: str, width_pixels: int = 760, name: str = "") -> None:
        """Adds a drawing made elsewhere; its caption is also read out by screen readers."""
        self.parts.append(Drawing("svg", drawing, caption, width_pixels, name))

    def html(self) -> str:
        """The whole page."""
        body = "\n".join(map(_html, self.parts))
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n"
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(self.title)}</h1>\n{body}\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Writes the page atomically and returns its path."""
        return write_atomically(path, self.html())


def _html(part: Part) -> str:
    """One part of a page, its texts escaped."""
    match part:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Bullets(texts):
            return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"
        case Commands(text):
            return f"<pre>{escape(text)}</pre>"
        case Folded(title, text, _):
            return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        case Table():
            return _html_table(part)
        case Drawing():
            return _html_drawing(part)


def _html_table(table: Table) -> str:
    lines = [
        _table_row("th", table.header, table.is_numeric),
        *(_table_row("td", row, table.is_numeric) for row in table.rows),
    ]
    title = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f"<table>{title}\n" + "\n".join(lines) + "\n</table>"


def _html_drawing(drawing: Drawing) -> str:
    media_type = "image/svg+xml" if drawing.suffix == "svg" else "image/png"
    source = f"data:{media_type};base64,{base64.b64encode(drawing.content).decode()}"
    text = escape(drawing.caption)
    image = f'<img src="{source}" width="{drawing.width_pixels}" alt="{text}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _begins_as_number(cell: object) -> bool:
    """Whether a cell reads as a number, perhaps with an interval or unit after it; a dash stands for a missing one."""
    text = str(cell).strip()
    return text in ("–", "-") or text.lstrip("+-−")[:1].isdigit()


def _table_row(tag: str, cells: Sequence[str], numeric: Sequence[bool]) -> str:
    classes = [' class="number"' if is_number else "" for is_number in numeric]
    filled = [f"<{tag}{c}>{escape(cell)}</{tag}>" for cell, c in zip(cells, classes, strict=True)]
    return f"<tr>{''.join(filled)}</tr>"
