import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluation.reports.charts import Curve, curves_svg
from evaluation.reports.report import Report
from system.atomic_file import write_atomically

_VOID = {"meta", "img", "br", "link"}


class _Page(HTMLParser):
    """Checks that elements close in order; collects texts and everything that could point outside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.elements: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def page(tmp_path: Path) -> str:
    report = Report("Demo <script>alert(1)</script> & more")
    report.add_heading("Numbers")
    report.add_paragraph("a < b & c")
    report.add_commands("python -m scripts.evaluate --faces <folder>")
    report.add_table(["", "PSNR", "note"], [["degraded", "21.20", "x"], ["restored", "–", '"<b>"']], "Means")
    report.add_table(["file", "SHA-256"], [["a", "7481a11b"], ["b", "12e5aa"]])
    report.add_picture(np.zeros((4, 6, 3), dtype=np.uint8), 'quote " and <tag>')
    report.add_curves([Curve("L1", [0, 1], [2, 1]), Curve("R1", [0, 1], [1, 3])], "images", "loss", "Losses", True)
    return report.write(tmp_path / "report.html").read_text()


def test_the_page_is_well_formed_and_every_text_arrives_as_it_was_given(page: str) -> None:
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert "script" not in parser.elements and "b" not in parser.elements
    for text in ("a < b & c", "python -m scripts.evaluate --faces <folder>", '"<b>"', 'quote " and <tag>', "Means"):
        assert text in parser.texts


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    parser = _Page()
    parser.feed(page)
    assert len(parser.references) == 2
    assert all(reference.startswith("data:image/") for reference in parser.references)
    assert not re.search(r"url\(|@import|https?:", page)


def test_columns_of_numbers_are_flush_right(page: str) -> None:
    assert '<td class="number">21.20</td>' in page and "<td>x</td>" in page and "<td>degraded</td>" in page
    assert "<td>7481a11b</td>" in page  # digits that begin a text are none


def test_pictures_are_stored_without_loss(page: str) -> None:
    encoded = next(iter(re.findall(r"data:image/png;base64,([^\"]+)", page)))
    assert base64.b64decode(encoded).startswith(b"\x89PNG")


def test_curves_differ_in_colour_and_in_style_and_do_not_change_from_run_to_run() -> None:
    curves = [Curve(str(i), [0, 1, 2], [i, i + 1, i]) for i in range(4)]
    svg = curves_svg(curves, "images", "loss")
    assert svg == curves_svg(curves, "images", "loss")
    ElementTree.fromstring(svg)
    text = svg.decode()
    assert all(colour in text.lower() for colour in ("#0072b2", "#d55e00", "#009e73", "#cc79a7"))
    assert text.count("stroke-dasharray: 5.92") >= 1


def test_tables_and_charts_with_missing_values_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 2 cells"):
        Report("x").add_table(["a", "b"], [["1"]])
    with pytest.raises(ValueError, match="as many x as y"):
        curves_svg([Curve("a", [0, 1], [1])], "x", "y")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "page.html", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
