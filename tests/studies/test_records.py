from collections.abc import Callable

import pytest

from evaluation.reports.charts import Curve
from studies.comparison import Member
from studies.records import stage_records, training_seconds
from studies.report.page import mean_curve
from studies.report.tables import time_text


def rows(*pairs: tuple[int, float]) -> dict[int, dict[str, float]]:
    return {images: {"speed/images_per_second": speed} for images, speed in pairs}


def test_time_is_the_sum_over_rows_of_images_by_speed() -> None:
    assert training_seconds(rows((100, 10.0), (300, 20.0)), 300) == (20.0, "")


def test_time_up_to_a_checkpoint_and_beyond_the_last_row_is_scaled_and_said() -> None:
    logged = rows((100, 10.0), (300, 20.0))
    assert training_seconds(logged, 100) == (10.0, "")
    seconds, note = training_seconds(logged, 330)
    assert seconds == pytest.approx(22.0) and note == "the last 30 images at the mean speed of the others"
    assert training_seconds({}, 330) == (None, "")


def test_a_run_in_several_sessions_says_so(make_member: Callable[..., Member]) -> None:
    member = make_member("seed 0", {"small": {"psnr": [20.0] * 5}}, {"num_sessions": 3})
    record = stage_records(member)["restoration"]
    assert (record.images_seen, record.seconds) == (2000, 30.0)
    assert record.seconds_note == "3 sessions, work lost between them not counted"


def test_times_are_written_in_minutes_and_hours_and_unknown_ones_as_a_dash() -> None:
    assert time_text([60.0, 120.0]) == "1.5 ± 0.7 min"
    assert time_text([4 * 3600.0]) == "4.0 h"
    assert time_text([60.0, None]) == "–" and time_text([]) == "–"


def test_a_mean_curve_holds_common_points_with_the_band_of_all_runs() -> None:
    one, other = Curve("x", [0, 10, 20], [1, 2, 3]), Curve("x", [0, 20, 30], [3, 7, 9])
    assert mean_curve("a", [one, other]) == Curve("a", [0, 20], [2.0, 5.0], [1, 3], [3, 7])
    assert mean_curve("a", [one]) == Curve("a", [0, 10, 20], [1, 2, 3])
    assert mean_curve("a", [one, Curve("x", [5], [1])]) is None and mean_curve("a", []) is None
