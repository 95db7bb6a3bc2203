from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from evaluation.reports.charts import Curve
from evaluation.reports.report import Report

HOSTILE = ["<b>x</b>", "a | b", "*y* _z_ `c`", "[t](http://x)", "# no heading", "1. no list", "- no list", "a & b &lt;"]
UNPRINTABLE = {"new\nline": "new line", "\x1b[2Jx": "\\x1b[2Jx", "\udcff.png": "\\udcff.png", "a\u202eb": "a\\u202eb"}
"""Names of files as they may be, and how they are shown."""


@pytest.fixture
def report() -> Report:
    report = Report("A *title*")
    report.add_heading("Section <1>")
    report.add_paragraph("line\nand line")
    report.add_list(HOSTILE)
    report.add_commands("```\npython -m x <y>\n```")
    report.add_table(["", "PSNR dB ↑"], [[text, "1.0"] for text in HOSTILE], "Means")
    report.add_picture(np.zeros((4, 4, 3), dtype=np.uint8), "faces", name="faces")
    report.add_curves([Curve("a", [0, 1], [0, 1])], "x", "y", "curve")
    report.add_folded("a, restoration", "seed: 0", "configs/a.yaml")
    return report


def texts(path: Path) -> list[str]:
    """Everything that a reader sees, as a parser of its own finds it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text())
    inline = ["".join(c.content for c in t.children or () if c.type == "text") for t in tokens if t.type == "inline"]
    return inline + [token.content for token in tokens if token.type == "fence"]


def test_every_text_arrives_as_it_was_given(report: Report, tmp_path: Path) -> None:
    found = texts(report.write_markdown(tmp_path / "report.md"))
    for text in ("A *title*", "Section <1>", "line and line", "Means", "PSNR dB ↑", "```\npython -m x <y>\n```\n"):
        assert text in found
    for text in HOSTILE:
        assert found.count(text) == 2, text  # in the list and in the table


def test_nothing_but_what_was_added_is_markup(report: Report, tmp_path: Path) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(report.write_markdown(tmp_path / "report.md").read_text())
    kinds = [token.type for token in tokens] + [c.type for t in tokens for c in t.children or ()]
    assert kinds.count("heading_open") == 2 and kinds.count("tr_open") == 1 + len(HOSTILE)
    assert kinds.count("list_item_open") == len(HOSTILE)
    assert kinds.count("link_open") == 1 and kinds.count("image") == 2 and kinds.count("em_open") == 2
    assert not {"html_block", "html_inline", "code_inline", "strong_open"} & set(kinds)


def test_pictures_and_charts_are_files_beside_it(report: Report, tmp_path: Path) -> None:
    text = report.write_markdown(tmp_path / "report.md").read_text()
    assert "![faces](pictures/faces.png)" in text and "[a, restoration](configs/a.yaml)" in text
    assert (tmp_path / "pictures" / "faces.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "pictures" / "figure_07.svg").read_bytes()


@pytest.mark.parametrize("name", UNPRINTABLE)
def test_names_that_are_no_text_or_steer_a_terminal_are_shown_as_escapes(name: str, tmp_path: Path) -> None:
    report = Report(name)
    report.add_paragraph(name)
    report.add_table(["name"], [[name]], name)
    report.add_picture(np.zeros((4, 4, 3), dtype=np.uint8), name, name="faces")
    report.add_folded(name, name, "configs/a.yaml")
    shown = UNPRINTABLE[name]
    found = texts(report.write_markdown(tmp_path / "report.md"))
    assert found.count(shown) == 6  # heading, paragraph, caption and cell of the table, caption of the picture, link
    page = " ".join(report.write(tmp_path / "report.html").read_text().split())
    assert page.count(shown) == 9 and "\x1b" not in page
