import re

import pytest

from evaluation.reports.charts import ForestPanel, ForestRow, forest_svg

CERTAIN = ForestRow("certain", 0.2, (0.1, 0.3), (0.05, 0.35), True)
OPEN = ForestRow("open", -0.1, (-0.2, 0.0), None, False)


def test_equal_differences_are_drawn_as_equal_bytes_and_certain_ones_alone_in_colour() -> None:
    drawing = forest_svg([ForestPanel("dB", [CERTAIN, OPEN])])
    assert drawing == forest_svg([ForestPanel("dB", [CERTAIN, OPEN])])
    assert b"#0072b2" in drawing and b"#0072b2" not in forest_svg([ForestPanel("dB", [OPEN, OPEN])])


def test_every_difference_gets_the_same_room_whatever_their_number() -> None:
    def height(number: int) -> float:
        found = re.search(rb'height="([\d.]+)pt"', forest_svg([ForestPanel("dB", [OPEN] * number)]))
        assert found is not None
        return float(found[1])

    assert height(9) - height(5) == pytest.approx(height(5) - height(1), abs=0.1)


@pytest.mark.parametrize("panels", [[], [ForestPanel("dB", [])]])
def test_nothing_to_draw_is_refused(panels: list[ForestPanel]) -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        forest_svg(panels)
