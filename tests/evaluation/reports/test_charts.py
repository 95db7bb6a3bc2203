import re
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluation.reports.charts import Curve, CurvePanel, curve_panels_svg, curves_svg, spread


def test_labels_that_would_overlap_are_moved_apart_in_their_order() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.5, 0.6])
    assert spread([1.0, 0.99, 0.98], 0.1) == pytest.approx([1.0, 0.9, 0.8])
    places = np.random.default_rng(0).random(7)
    moved = spread(places.tolist(), 0.12)
    assert (np.argsort(moved) == np.argsort(places)).all()
    assert np.diff(np.sort(moved)).min() >= 0.12 - 1e-9
    assert min(moved) >= 0 and max(moved) <= 1


def test_every_curve_is_named_and_has_its_band() -> None:
    curves = [Curve(name, [0, 1], [1, k], [0, k - 1], [2, k + 1]) for name, k in (("concat", 3), ("add", 2))]
    drawing = curves_svg(curves, "images seen", "PSNR [dB]")
    root = ElementTree.fromstring(drawing)
    ids = [element.get("id", "") for element in root.iter()]
    assert sum("FillBetween" in name or "PolyCollection" in name for name in ids) == 2
    comments = drawing.decode()
    assert "<!-- concat -->" in comments and "<!-- add -->" in comments


def test_the_beginning_does_not_set_the_scale_if_told_so() -> None:
    curve = Curve("a", [0, 50, 100], [10.0, 24.0, 25.0])
    whole, later = (curves_svg([curve], "images", "dB", scale_from=share).decode() for share in (0.0, 0.2))
    assert "<!-- 10 -->" in whole and "<!-- 10 -->" not in later and "<!-- 24.4 -->" in later


def test_bands_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="as many x as y"):
        curves_svg([Curve("a", [0, 1], [1, 2], [1], [2, 3])], "x", "y")


def test_panels_share_a_logarithmic_x_axis_and_a_legend() -> None:
    panels = [CurvePanel([Curve("ours", [0.1, 10], [20, 25]), Curve("textbook", [1, 100], [9, 12])], "PSNR [dB]")] * 2
    drawing = curve_panels_svg(panels, "minutes").decode()
    assert drawing == curve_panels_svg(panels, "minutes").decode()
    assert drawing.count("<!-- ours -->") == drawing.count("<!-- textbook -->") == 1
    assert drawing.count("<!-- minutes -->") == 1
    assert all(drawing.count(f"<!-- {tick} -->") == 1 for tick in ("0.1", "1", "100"))
    with pytest.raises(ValueError, match="a curve in each"):
        curve_panels_svg([CurvePanel([], "dB")], "minutes")


def test_counts_have_ticks_of_whole_numbers_and_other_values_have_not() -> None:
    for top, has_parts in ((2.0, False), (2.5, True)):
        drawing = curves_svg([Curve("faces", [0, 1, 2], [0.0, top, 0.0])], "pixels", "faces").decode()
        ticks = re.findall(r"<!-- ([0-9.]+) -->", drawing)[-3:]  # x is drawn first
        assert any("." in tick for tick in ticks) == has_parts
