"""The demo trains on as many images as its minutes hold, and continues with the same numbers."""

from pathlib import Path

import pytest

from demo.budget import Lengths, Speed, decide, images_of_prior, images_of_restoration, read_lengths

TWO_FAST_CORES, TWO_AVX2_CORES, ONE_AVX2_CORE = Speed(0.012, 0.018), Speed(0.045, 0.05), Speed(0.08, 0.09)


def seconds_of(prior_images: int, restoration_images: int, speed: Speed) -> float:
    return prior_images * speed.prior_seconds + restoration_images * speed.restoration_seconds


@pytest.mark.parametrize(
    ("minutes", "speed"), [(12, TWO_FAST_CORES), (12, TWO_AVX2_CORES), (25, ONE_AVX2_CORE), (6, TWO_AVX2_CORES)]
)
def test_both_stages_fit_into_the_minutes_and_the_second_gets_most(minutes: float, speed: Speed) -> None:
    prior = images_of_prior(60 * minutes, speed)
    left = 60 * minutes - prior * speed.prior_seconds - 15
    restoration = images_of_restoration(left, speed)
    assert prior % 160 == restoration % 160 == 0
    assert seconds_of(prior, restoration, speed) < 60 * minutes - 70
    assert restoration > prior
    is_longest = restoration == 24_000
    assert is_longest or seconds_of(prior, restoration + 1_600, speed) > 0.75 * (60 * minutes - 70) - 1_600 * 0.02


def test_a_machine_that_is_too_slow_for_the_minutes_still_trains_a_little() -> None:
    assert images_of_prior(60, Speed(1.0, 1.0)) == images_of_restoration(-30, Speed(1.0, 1.0)) == 320


def test_a_slow_start_of_stage_1_takes_its_own_time_from_stage_2_and_no_more() -> None:
    # Stage 1 as expected, 480 images at 4.2 a second, but 75 s until its first iteration; 1,090 s are left.
    speed = Speed(0.24, 0.22)
    assert speed.after_prior(1 / 0.24) == speed
    on_time, late = (images_of_restoration(1090, speed, start) for start in (15, 75))
    assert on_time - 480 < late < on_time  # 60 s are 272 images, rounded to 160
    assert late > 3_600


def test_images_that_are_slower_than_measured_count_as_such_up_to_twice() -> None:
    speed = Speed(0.25, 0.2)
    slower = speed.after_prior(2.5)
    assert (slower.prior_seconds, slower.restoration_seconds) == pytest.approx((0.4, 0.32))
    assert speed.after_prior(0.1) == Speed(0.5, 0.4)
    assert speed.after_prior(100.0) == speed


def test_numbers_that_were_decided_stay_when_the_demo_is_continued(tmp_path: Path) -> None:
    path, asked = tmp_path / "demo.json", Lengths(12.0, "faces")
    assert read_lengths(path, asked) == asked
    decided = decide(asked, path, prior_images=800)
    assert decided == Lengths(12.0, "faces", 800) == read_lengths(path, asked)
    again = decide(read_lengths(path, asked), path, prior_images=320)
    assert again == Lengths(12.0, "faces", 800)
    assert (
        decide(again, path, restoration_images=1600) == Lengths(12.0, "faces", 800, 1600) == read_lengths(path, asked)
    )


def test_numbers_that_are_asked_for_win(tmp_path: Path) -> None:
    asked = Lengths(12.0, "faces", 64, 128)
    assert decide(asked, tmp_path / "demo.json", prior_images=800, restoration_images=900) == asked


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Lengths(6.0, "faces"), r"holds a demo with minutes 12.0, now 6.0"),
        (Lengths(12.0, "others"), r"holds a demo with faces faces, now others"),
        (Lengths(12.0, "faces", 64), r"holds a demo with prior_images 800, now 64"),
    ],
)
def test_a_demo_with_other_options_in_the_folder_is_refused_in_one_line(
    asked: Lengths, message: str, tmp_path: Path
) -> None:
    decide(Lengths(12.0, "faces"), tmp_path / "demo.json", prior_images=800)
    with pytest.raises(ValueError, match=message):
        read_lengths(tmp_path / "demo.json", asked)


def test_a_damaged_file_of_numbers_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"minutes": 12')
    with pytest.raises(ValueError, match=r"demo\.json is damaged .* remove"):
        read_lengths(tmp_path / "demo.json", Lengths(12.0, "faces"))
