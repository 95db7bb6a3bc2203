import random

import numpy as np
import pytest
import scipy.stats

from evaluation.statistics import (
    NUM_DIFFERENCE_RESAMPLES,
    holm_adjusted,
    mean_difference_interval,
    mean_interval,
    training_difference,
)


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


def test_without_differences_among_seeds_both_intervals_are_those_of_the_faces() -> None:
    values = np.random.default_rng(3).normal(0.2, 1.0, 300)
    found = training_difference(np.stack([values, values]), np.zeros((2, 300)))
    paired = mean_difference_interval(values.tolist(), [0.0] * 300)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.over_faces == found.over_faces_and_seeds == pytest.approx((paired.low, paired.high), abs=0.01)


def test_faces_are_drawn_again_in_pairs_as_a_slow_loop_does() -> None:
    generator = np.random.default_rng(4)
    values, reference = generator.normal(1, 2, (3, 40)), generator.normal(0.5, 2, (2, 40))
    means, draws = [], random.Random(6)
    for _ in range(4000):
        chosen = [draws.randrange(40) for _ in range(40)]
        one = [float(np.mean([values[s][f] for s in range(3)])) for f in chosen]
        other = [float(np.mean([reference[s][f] for s in range(2)])) for f in chosen]
        means.append(sum(a - b for a, b in zip(one, other, strict=True)) / 40)
    expected = np.quantile(means, [0.025, 0.975])
    assert training_difference(values, reference).over_faces == pytest.approx(tuple(expected), abs=0.04)


def test_with_equal_faces_the_interval_and_p_value_over_seeds_are_those_of_welch() -> None:
    ones, others = np.array([1.0, 1.4, 1.1]), np.array([0.4, 0.9])
    found = training_difference(np.repeat(ones[:, None], 9, 1), np.repeat(others[:, None], 9, 1))
    test = scipy.stats.ttest_ind(ones, others, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert found.over_faces == pytest.approx((found.mean, found.mean), abs=1e-12)
    assert found.over_faces_and_seeds == pytest.approx((low, high), abs=0.06)
    assert found.p_value == pytest.approx(test.pvalue, abs=0.01)


def test_a_variant_trained_once_has_no_interval_over_seeds() -> None:
    values = np.random.default_rng(5).normal(0, 1, (1, 30))
    found = training_difference(values + 1, np.concatenate([values, values]))
    assert found.over_faces_and_seeds is None and found.widest == found.over_faces == pytest.approx((1.0, 1.0))
    assert found.p_value == pytest.approx(2 / (NUM_DIFFERENCE_RESAMPLES + 1))
    single = training_difference(np.ones((2, 1)), np.zeros((2, 1)))
    assert (single.mean, single.over_faces, single.over_faces_and_seeds, single.p_value) == (1.0, None, None, None)


@pytest.mark.slow
def test_the_interval_over_faces_and_seeds_covers_the_truth_where_few_seeds_drawn_again_would_not() -> None:
    generator = np.random.default_rng(6)
    covered = {"ours": 0, "drawn again": 0}
    for _ in range(200):
        seeds = generator.normal(0, 1, (2, 3, 1)) + generator.normal(0, 1, (2, 3, 40))
        found = training_difference(*seeds)
        assert found.over_faces_and_seeds is not None
        covered["ours"] += found.over_faces_and_seeds[0] <= 0 <= found.over_faces_and_seeds[1]
        means = seeds.mean(axis=2)
        drawn = [generator.choice(means[0], 3).mean() - generator.choice(means[1], 3).mean() for _ in range(1000)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered["drawn again"] += low <= 0 <= high
    assert covered["ours"] / 200 >= 0.92
    assert covered["drawn again"] / 200 <= 0.85


def test_holms_correction_is_that_of_the_textbook() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_adjusted([0.5, 0.9]) == [1.0, 1.0] and holm_adjusted([]) == []


def test_trainings_measured_on_other_faces_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"shapes \[2, 4\] and \[2, 5\]"):
        training_difference(np.zeros((2, 4)), np.zeros((2, 5)))
    with pytest.raises(ValueError, match="finite"):
        training_difference(np.full((2, 4), np.nan), np.zeros((2, 4)))
