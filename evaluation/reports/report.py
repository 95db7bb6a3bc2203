"""Reports of text, tables, pictures and curves: Markdown with files beside it, and one HTML page made from it."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from evaluation.reports.charts import Curve, curves_svg
from evaluation.reports.pictures import Picture, png_bytes
from system.atomic_file import write_atomically
from system.wording import printable, unwrapped

PICTURES_FOLDER = "pictures"
DRAWING_PIXELS = 760
"""Width of drawings on the screen; pictures have their own."""
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 74rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
p, li, figure { max-width: 62rem; }  /* tables take the whole page */
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .6rem; }
h2 { border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.frame { overflow-x: auto; margin: 1rem 0; }
figure .frame { margin: 0; }
th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { max-width: max(100%, 38rem); height: auto; }  /* a telephone scrolls charts, whose words stay legible */
figcaption { color: #444; }
summary { cursor: pointer; }
pre { background: #f4f4f4; padding: .7rem 1rem; overflow-x: auto; white-space: pre-wrap; }
@media print {
  body { margin: 0; max-width: none; font-size: 11pt; }
  pre { border: 1px solid #ccc; }
  .frame { overflow-x: visible; }
  figure img { max-width: 100%; }
  h2, h3 { break-after: avoid; }
}
"""


@dataclass(frozen=True)
class _Block:
    """A part of a page."""

    markdown: str
    html: str = ""
    """Where the page says more than the Markdown can; else it is made from that."""
    file: str = ""
    """Of a picture, beside the Markdown."""
    content: bytes = b""


class Report:
    """Collects the parts of a page from top to bottom; every text is shown as it was given, never taken for markup."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[_Block] = []

    def add_heading(self, text: str, level: int = 2) -> None:
        """Begins a section (level 2) or one inside it (3)."""
        self._add(f"{'#' * level} {_plain(text)}")

    def add_paragraph(self, text: str) -> None:
        """Adds running text."""
        self._add(_plain(text))

    def add_list(self, texts: Sequence[str]) -> None:
        """Adds a list of short texts."""
        self._add("\n".join(f"- {_plain(text)}" for text in texts))

    def add_commands(self, text: str) -> None:
        """Adds lines to be typed or read as they are."""
        self._add(_fenced(printable(text.strip())))

    def add_folded(self, title: str, text: str, file: str) -> None:
        """Adds a long text that the page shows on demand and that also lies in a file beside it."""
        summary, content = escape(printable(title)), escape(printable(text.strip()))
        html = f"<details><summary>{summary}</summary><pre>{content}</pre></details>"
        self._blocks.append(_Block(f"[{_label(title)}]({file})", html))

    def add_table(self, header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
        """Adds a table of formatted cells; columns that hold numbers only, but for the first, are set flush right.
        ValueError where a row has another number of cells than the header."""
        wrong = next((row for row in rows if len(row) != len(header)), None)
        if wrong is not None:
            raise ValueError(f"every row of a table needs {len(header)} cells like its header, got {len(wrong)}")
        numeric = [i > 0 and bool(rows) and all(_begins_as_number(row[i]) for row in rows) for i in range(len(header))]
        rules = ["---:" if is_numeric else "---" for is_numeric in numeric]
        lines = [[_plain(cell) for cell in header], rules, *([_plain(str(cell)) for cell in row] for row in rows)]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        self._add(f"{_plain(caption)}\n\n{text}" if caption else text)

    def add_picture(self, picture: Picture, caption: str, name: str = "") -> None:
        """Adds a picture, uint8 [H, W, 3], stored losslessly, with a caption that screen readers read out too."""
        self._add_drawing(png_bytes(picture), "png", caption, picture.shape[1], name)

    def add_curves(
        self, curves: Sequence[Curve], x_label: str, y_label: str, caption: str, logarithmic: bool = False
    ) -> None:
        """Adds a chart whose lines differ in colour (safe for colour-blind readers) and in style (safe in grey print);
        labels name quantity and unit. ValueError where there are no curves or x and y differ in length."""
        self.add_svg(curves_svg(curves, x_label, y_label, logarithmic), caption)

    def add_svg(self, drawing: bytes, caption: str, name: str = "") -> None:
        """Adds a drawing made elsewhere; its caption is also read out by screen readers."""
        self._add_drawing(drawing, "svg", caption, DRAWING_PIXELS, name)

    def html(self) -> str:
        """The whole page, which needs nothing but a browser."""
        body = "\n".join(block.html or _html(block.markdown) for block in self._blocks)
        title = escape(printable(self.title))
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n"
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Writes the page atomically and returns its path."""
        return write_atomically(path, self.html())

    def write_markdown(self, path: Path) -> Path:
        """Writes the same in GitHub's Markdown, pictures into the folder `pictures` beside it; returns the path."""
        for block in self._blocks:
            if block.file:
                write_atomically(path.parent / block.file, block.content)
        return write_atomically(
            path, "\n\n".join([f"# {_plain(self.title)}", *(b.markdown for b in self._blocks)]) + "\n"
        )

    def _add(self, markdown: str) -> None:
        self._blocks.append(_Block(markdown))

    def _add_drawing(self, content: bytes, suffix: str, caption: str, width_pixels: int, name: str) -> None:
        file = f"{PICTURES_FOLDER}/{name or f'figure_{len(self._blocks) + 1:02}'}.{suffix}"
        media_type = "image/svg+xml" if suffix == "svg" else "image/png"
        source = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
        text = escape(printable(caption))
        image = f'<img src="{source}" width="{width_pixels}" alt="{text}">'
        html = f'<figure><div class="frame">{image}</div><figcaption>{text}</figcaption></figure>'
        self._blocks.append(_Block(f"![{_label(caption)}]({file})\n\n*{_plain(caption)}*", html, file, content))


def _html(markdown: str) -> str:
    """A block rendered, tables in a frame in which they scroll."""
    tokens = _MARKDOWN.parse(markdown)
    for token in tokens:
        if token.type.startswith(("tr_", "th_", "td_")):
            token.block = token.type == "tr_close"  # a row is a line
        if token.attrs.pop("style", None) == "text-align:right":
            token.attrSet("class", "number")
    html = str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})).strip()
    html = html.replace("\n</code></pre>", "</code></pre>")
    return html.replace("<table>", '<div class="frame"><table>').replace("</table>", "</table></div>")


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def _begins_as_number(cell: object) -> bool:
    """Whether a cell reads as a number, perhaps with an interval or unit after it; a dash stands for a missing one."""
    text = str(cell).strip()
    return text in ("–", "-") or re.match(r"\[?[+−-]?\d[\d,.]*(e[+-]\d+)?(?!\w)", text) is not None


def _plain(text: str) -> str:
    """One line in which nothing is taken for markup."""
    text = unwrapped(printable(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|~]|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\][(\[:]))", r"\\\1", text)
    text = re.sub(r"^([+-]|#+)(?= )", r"\\\1", text)
    return re.sub(r"^(\d+)([.)]) ", r"\1\\\2 ", text)


def _label(text: str) -> str:
    """As `_plain`, between the brackets of a link or picture."""
    return re.sub(r"\\.|[\[\]]", lambda found: found[0] if len(found[0]) > 1 else f"\\{found[0]}", _plain(text))


def _fenced(text: str) -> str:
    """A block of code whose fence is longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
