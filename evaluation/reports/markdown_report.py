"""A report as Markdown, with its pictures and charts as files beside it."""

import re
from collections.abc import Iterator
from pathlib import Path

from evaluation.reports.report import Bullets, Commands, Drawing, Folded, Heading, Paragraph, Report, Table
from system.atomic_file import write_atomically

PICTURES_FOLDER = "pictures"


def write_markdown(report: Report, path: Path) -> Path:
    """Writes the same parts as `Report.html` in GitHub's Markdown.

    Args:
        report: Complete.
        path: Of the file; pictures go into the folder `pictures` beside it, named as the report names them, else by
            their number.

    Returns:
        The path.
    """
    lines = [f"# {_plain(report.title)}"]
    for number, part in enumerate(report.parts, start=1):
        match part:
            case Heading(text, level):
                lines.append(f"{'#' * level} {_plain(text)}")
            case Paragraph(text):
                lines.append(_plain(text))
            case Bullets(texts):
                lines.append("\n".join(f"- {_plain(text)}" for text in texts))
            case Commands(text):
                lines.append(_fenced(text))
            case Folded(title, _, file):
                lines.append(f"[{_plain(title)}]({file})")
            case Table():
                lines.append("\n".join(_table_lines(part)))
            case Drawing():
                file = f"{PICTURES_FOLDER}/{part.name or f'figure_{number:02}'}.{part.suffix}"
                write_atomically(path.parent / file, part.content)
                lines.append(f"![{_plain(part.caption)}]({file})\n\n*{_plain(part.caption)}*")
    return write_atomically(path, "\n\n".join(lines) + "\n")


def _table_lines(table: Table) -> Iterator[str]:
    """Caption, head and rows."""
    if table.caption:
        yield f"{_plain(table.caption)}\n"
    yield _row([_plain(cell) for cell in table.header])
    yield _row(["---:" if is_numeric else "---" for is_numeric in table.is_numeric])
    for row in table.rows:
        yield _row([_plain(cell) for cell in row])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """One line in which nothing is taken for markup."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|~]|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\][(\[:]))", r"\\\1", text)
    text = re.sub(r"^([+-]|#+)(?= )", r"\\\1", text)
    return re.sub(r"^(\d+)([.)]) ", r"\1\\\2 ", text)


def _fenced(text: str) -> str:
    """A block of code whose fence is longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
