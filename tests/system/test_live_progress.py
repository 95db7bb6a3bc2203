import sys
import time

import pytest

from system import live_progress
from system.live_progress import StepClock, duration, sharing


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, "0:00:00"), (59.6, "0:01:00"), (3723.0, "1:02:03"), (360_000.0, "100:00:00")]
)
def test_durations_are_hours_minutes_seconds(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_the_time_left_is_that_of_the_parts_left_at_the_speed_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = StepClock("reading")
    now += 7
    assert clock.line() == "reading: 0:00:07 so far"
    clock.on_step("restoring", 0, 2000)
    now += 30
    assert clock.line() == "restoring: 0 of 2,000, 0:00:30 so far"
    clock.on_step("restoring", 500, 2000)
    assert clock.line() == "restoring: 500 of 2,000, 0:01:30 left"


def test_the_time_left_in_all_is_that_of_the_costs_left_at_the_speed_since_the_first_counted_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = StepClock("starting")
    on_step = sharing(clock.on_step, [("comparing", 10), ("skipped", 20), ("restoring", 30), ("restoring again", 40)])
    now += 100
    on_step("comparing a", 0, 4)
    now += 5
    on_step("comparing a", 2, 4)  # 5 of 100 in 5 s
    assert clock.line() == "comparing a: 2 of 4, 0:00:05 left; 0:01:35 left in all"
    now += 5
    on_step("tracing")
    assert clock.line() == "tracing: 0:00:00 so far; 0:01:30 left in all"
    now += 10
    assert clock.line().endswith("0:01:20 left in all")
    on_step("restoring b", 15, 30)  # 45 of 100 in 20 s, with what was skipped
    assert clock.line().endswith("; 0:00:24 left in all")


def test_without_a_terminal_a_line_comes_also_while_nobody_tells_anything(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(live_progress, "SECONDS_TO_FIRST_LINE", 0.1)
    with live_progress.live_progress("thinking"):
        time.sleep(0.4)
    assert capfd.readouterr().err == 2 * "thinking: 0:00:00 so far\n"


def test_two_lines_come_within_twenty_seconds() -> None:
    assert 2 * live_progress.SECONDS_TO_FIRST_LINE < 20  # of the second one too, which knows more


def test_a_step_that_is_over_soon_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with live_progress.live_progress("thinking", 3) as on_step:
        on_step("thinking", 3, 3)
    assert capfd.readouterr() == ("", "")
