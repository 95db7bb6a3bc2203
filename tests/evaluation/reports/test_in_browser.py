"""Pages in a real browser: nothing reaches beyond the window, whether it is a telephone's or a desk's."""

import json
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest

from evaluation.reports.charts import Curve, ForestPanel, ForestRow, forest_svg
from evaluation.reports.report import Report

WIDTHS = (420, 1200)
MEASURE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument;
    const scrolls = element => element && (element.classList.contains("frame") || scrolls(element.parentElement));
    const beyond = [...page.body.querySelectorAll("*")].filter(element =>
      element.getBoundingClientRect().right > page.documentElement.clientWidth + 1 && !scrolls(element.parentElement));
    const root = page.documentElement;
    const charts = [...page.querySelectorAll("img")].map(image => image.clientWidth);
    const hidden = root.scrollWidth - root.clientWidth;
    const scrolling = [...page.querySelectorAll(".frame")].filter(f => f.scrollWidth > f.clientWidth).length;
    return {width: frame.width * 1, hidden, beyond: beyond.map(e => e.tagName), charts, scrolling};
  });
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
}, 300));
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser, as Debian and others call it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("pages are measured where there is a Chromium")
    return found


def measured(chromium: str, html: str, folder: Path) -> list[dict[str, object]]:
    """For each width of a window, how many pixels of the page lie beyond it, and which elements do."""
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{escape(html)}"></iframe>' for width in WIDTHS)
    (folder / "windows.html").write_text(f"<!DOCTYPE html><html><body>{frames}{MEASURE}</body></html>")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", (folder / "windows.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found: list[dict[str, object]] = json.loads(unescape(dom.split("<pre>")[1].split("</pre>")[0]))
    return found


def full_page() -> Report:
    """Every kind of block, each wider than a telephone or with words that cannot be broken."""
    page = Report("A title_with_a_word_that_is_longer_than_a_telephone_is_wide_and_cannot_be_divided_anywhere")
    page.add_paragraph("/runs/" + "long_name_of_a_folder/" * 8)
    page.add_table([f"column {i}" for i in range(14)], [[f"12.3456 ± 0.{i:04}" for i in range(14)]], "Wide")
    page.add_list(["model.init_args.optimization.noise_strength_learning_rate" * 3])
    page.add_commands("python -m scripts.compare_runs " + "runs/restoration_seed0_0123456789 " * 6)
    page.add_folded("resolved configuration", "key: " + "x" * 300, "configs/a.yaml")
    page.add_picture(np.zeros((40, 1500, 3), np.uint8), "Wider than both windows: degraded, restored, target")
    curves = [Curve(f"a variant with a long name, number {i}", [0, 1000], [20.0, 21 + i / 100]) for i in range(5)]
    page.add_curves(curves, "images seen", "PSNR [dB]", "Curves that end close to each other")
    row = ForestRow("a variant with a long name, released", 0.1, (0.05, 0.15), (-0.1, 0.3), False)
    page.add_svg(forest_svg([ForestPanel("PSNR [dB] minus that of the reference", [row])]), "Differences")
    return page


def test_nothing_reaches_beyond_the_window_but_tables_and_charts_scroll_in_frames(
    chromium: str, tmp_path: Path
) -> None:
    html = full_page().html()
    small, large = measured(chromium, html, tmp_path)
    assert small.pop("scrolling") == 4 and large.pop("scrolling") == 1
    assert small == {"width": 420, "hidden": 0, "beyond": [], "charts": [608, 608, 608]}  # so that words stay legible
    assert large == {"width": 1200, "hidden": 0, "beyond": [], "charts": [992, 760, 760]}
    broken = html.replace(".frame { overflow-x: auto;", ".frame {")  # so that the measure is one
    assert any(one["hidden"] for one in measured(chromium, broken, tmp_path))


def test_a_table_of_differences_with_long_heads_fits_on_a_desk(chromium: str, tmp_path: Path) -> None:
    page = Report("Differences")
    heads = ["variant", "degradation", "metric", "difference", "95 % over faces", "95 % over faces and seeds", "p"]
    row = ["gpen_64.safetensors", "released", "PSNR dB ↑", "+2.332", "[+1.639, +3.047]", "–", "0.0002", "0.0012"]
    page.add_table([*heads, "adjusted p", "verdict"], [[*row, "significant for these networks"]], "Looked at: 6")
    small, large = measured(chromium, page.html(), tmp_path)
    assert (small["scrolling"], large["scrolling"]) == (1, 0)
