import numpy as np
import pytest

from evaluation.statistics import mean_difference_interval, mean_interval


def test_the_interval_covers_the_true_mean_about_nineteen_times_of_twenty() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(120):
        interval = mean_interval(generator.normal(3.0, 2.0, 50).tolist())
        assert interval.low is not None and interval.high is not None
        covered += interval.low <= 3.0 <= interval.high
    assert 0.88 <= covered / 120 <= 0.99


def test_the_width_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(1).normal(0, 5, 400)
    interval = mean_interval(values.tolist())
    assert interval.low is not None and interval.high is not None
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def test_the_same_values_give_the_same_interval_and_another_seed_another_one() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(list(range(50)), seed=3) != mean_interval(list(range(50)), seed=4)


def test_a_small_gain_on_every_face_is_seen_by_the_paired_difference_only() -> None:
    generator = np.random.default_rng(2)
    before = generator.normal(25, 3, 60)
    after = before + generator.normal(0.3, 0.1, 60)
    alone_before, alone_after = mean_interval(before.tolist()), mean_interval(after.tolist())
    difference = mean_difference_interval(after.tolist(), before.tolist())
    assert alone_before.high is not None and alone_after.low is not None and difference.low is not None
    assert alone_before.high > alone_after.low
    assert 0.2 < difference.low < difference.mean < 0.4


def test_one_face_has_a_mean_and_no_interval() -> None:
    interval = mean_interval([4.5])
    assert (interval.mean, interval.low, interval.high) == (4.5, None, None)


@pytest.mark.parametrize("values", [[], [1.0, float("inf")], [float("nan")]])
def test_values_without_a_mean_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one value, all finite"):
        mean_interval(values)


def test_unequal_numbers_of_faces_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        mean_difference_interval([1.0, 2.0], [1.0])
