"""A mean over faces and how far it may be off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.randomness import derive_seed

NUM_RESAMPLES = 2000
NUM_DIFFERENCE_RESAMPLES = 10_000
"""Resamples for differences of trainings, whose p values are multiplied by the number of differences."""
CONFIDENCE = 0.95
_LARGEST_DRAW = 2**20
INTERVAL_DEFINITION = (
    f"percentile bootstrap over faces, {NUM_RESAMPLES} resamples, fixed seed; differences: the same over the per-face "
    "differences (paired)"
)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its 95 % confidence interval."""

    mean: float
    """Mean over faces, or the value itself where a metric has one value for the whole set."""
    low: float | None
    """Lower end of the interval; None where there is none (one face, or a metric of the whole set)."""
    high: float | None
    """Upper end of the interval; None as for `low`."""

    @property
    def is_significant(self) -> bool | None:
        """Whether the interval excludes 0, which a claim that something is better or worse needs; None without one."""
        return None if self.low is None or self.high is None else _excludes_zero(self.low, self.high)


def _excludes_zero(low: float, high: float) -> bool:
    return low > 0 or high < 0


def mean_interval(values: Sequence[float], seed: int = 0) -> MeanInterval:
    """Mean over faces with a 95 % confidence interval from a percentile bootstrap; a single face has no interval.

    The faces are what was sampled, so they are what is drawn again. Lists of one length share their draws for a given
    seed, so that intervals of several metrics over one set of faces belong to the same resampled sets. Raises
    ValueError where there are no values or one of them is not finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13 (percentile interval).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"a mean over faces needs at least one value, all finite, got {array.size}; check the images")
    if array.size == 1:
        return MeanInterval(float(array[0]), None, None)
    return MeanInterval(float(array.mean()), *_interval(_resampled_means(array, NUM_RESAMPLES, seed)))


def mean_difference_interval(values: Sequence[float], reference: Sequence[float]) -> MeanInterval:
    """Mean of `values` minus `reference` over the same faces in the same order, with the interval of the paired
    difference, which excludes 0 if the difference is significant at 5 %.

    Two means whose intervals overlap may still differ for certain when each face improved; this one sees it. Raises
    ValueError where the lists differ in length, are empty or not finite.
    """
    if len(values) != len(reference):
        raise ValueError(
            f"a paired difference needs the same faces twice, got {len(values)} and {len(reference)} values"
        )
    return mean_interval([a - b for a, b in zip(values, reference, strict=True)])


@dataclass(frozen=True)
class TrainingDifference:
    """How much better or worse one way of training is than another, and what chance may have had in it."""

    mean: float
    """Mean difference over faces, each averaged over the trainings."""
    over_faces: tuple[float, float] | None
    """95 % interval for the networks at hand on other faces; None for a single face."""
    over_faces_and_seeds: tuple[float, float] | None
    """95 % interval for other faces and for repeated training; None if either was trained once only."""
    p_value: float | None
    """Two-sided, for a difference of 0, from the wider of the intervals that exist; None if there is none."""

    @property
    def widest(self) -> tuple[float, float] | None:
        """The interval that a claim has to rest on."""
        return self.over_faces_and_seeds or self.over_faces

    @property
    def is_significant(self) -> bool | None:
        """Whether every interval excludes 0; None without one."""
        intervals = [i for i in (self.over_faces, self.over_faces_and_seeds) if i is not None]
        return all(_excludes_zero(low, high) for low, high in intervals) if intervals else None


def training_difference(values: Values, reference: Values) -> TrainingDifference:
    """Compares two ways of training that were repeated with several seeds and measured on the same faces.

    The first interval draws the faces again (paired bootstrap over the per-face differences). The second adds what
    another seed would have changed: to every mean over drawn faces comes Student's t times the standard error of the
    difference of the seeds' means (Welch). Drawing two or three seeds again, as one draws faces, gives intervals that
    are far too narrow.

    Values are [S, F], one row per seed, one column per face; the reference is [T, F], the same faces in the same order,
    of other seeds, which are not paired. ValueError where the faces differ in number, or something is empty or not
    finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13; Welch, Biometrika 34 (1947), for the
    degrees of freedom.
    """
    for array in (values, reference):
        if array.ndim != 2 or array.size == 0 or array.shape[1] != values.shape[1] or not np.isfinite(array).all():
            raise ValueError(
                "a difference of trainings needs finite values [seeds, faces] of the same faces twice, got the shapes "
                f"{list(values.shape)} and {list(reference.shape)}; evaluate both on the same faces"
            )
    per_face = values.mean(axis=0) - reference.mean(axis=0)  # [F]
    if per_face.size == 1:
        return TrainingDifference(float(per_face[0]), None, None, None)
    over_faces = means = _resampled_means(per_face, NUM_DIFFERENCE_RESAMPLES)
    has_seeds = len(values) > 1 and len(reference) > 1
    if has_seeds:
        error, freedom = _welch(values.mean(axis=1), reference.mean(axis=1))
        generator = np.random.default_rng(derive_seed(0, "trainings", per_face.size))
        means = over_faces + error * generator.standard_t(freedom, over_faces.size)
    intervals = _interval(over_faces), _interval(means) if has_seeds else None
    return TrainingDifference(float(per_face.mean()), *intervals, _two_sided(means))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Raises the p values of all comparisons that were looked at, to 1 at most, so that, comparing each with 5 %, one
    wrong claim among all has a probability of at most 5 %.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _resampled_means(array: Values, number: int, seed: int = 0) -> Values:
    """Means over faces drawn with replacement; the draws depend on the number of faces and the seed alone."""
    generator = np.random.default_rng(derive_seed(seed, "bootstrap", array.size))
    rows = max(1, _LARGEST_DRAW // array.size)  # resamples drawn at once, which does not change them
    parts = [min(rows, number - first) for first in range(0, number, rows)]
    draws = (array[generator.integers(0, array.size, (part, array.size))] for part in parts)
    return np.concatenate([draw.mean(axis=1) for draw in draws])


def _interval(means: Values) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _welch(first: Values, second: Values) -> tuple[float, float]:
    """Standard error of the difference of two means, and its degrees of freedom."""
    variances = [group.var(ddof=1) / group.size for group in (first, second)]
    total = float(sum(variances))
    spread = sum(v**2 / (group.size - 1) for v, group in zip(variances, (first, second), strict=True))
    return total**0.5, float(total**2 / spread) if spread > 0 else float(first.size + second.size - 2)


def _two_sided(means: Values) -> float:
    """How rarely resampled differences lie on the other side of 0; never 0 itself."""
    smaller = min((means <= 0).sum(), (means >= 0).sum())
    return min(1.0, 2 * (int(smaller) + 1) / (means.size + 1))
