"""A mean over faces and how far it may be off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.randomness import derive_seed

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
INTERVAL_DEFINITION = (
    f"percentile bootstrap over faces, {NUM_RESAMPLES} resamples, fixed seed; differences: the same over the per-face "
    "differences (paired)"
)


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its 95 % confidence interval."""

    mean: float
    """Mean over faces, or the value itself where a metric has one value for the whole set."""
    low: float | None
    """Lower end of the interval; None where there is none (one face, or a metric of the whole set)."""
    high: float | None
    """Upper end of the interval; None as for `low`."""


def mean_interval(values: Sequence[float], seed: int = 0) -> MeanInterval:
    """Mean over faces with a 95 % confidence interval from a percentile bootstrap.

    The faces are what was sampled, so they are what is drawn again. Lists of one length share their draws for a given
    seed, so that intervals of several metrics over one set of faces belong to the same resampled sets.

    Args:
        values: One finite number per face.
        seed: Of the resampling; a fixed number makes the interval a function of the values.

    Returns:
        The mean and its interval; a single face has no interval.

    Raises:
        ValueError: If there are no values or one of them is not finite.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13 (percentile interval).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"a mean over faces needs at least one value, all finite, got {array.size}; check the images")
    if array.size == 1:
        return MeanInterval(float(array[0]), None, None)
    generator = np.random.default_rng(derive_seed(seed, "bootstrap", array.size))
    means = np.array([array[generator.integers(0, array.size, array.size)].mean() for _ in range(NUM_RESAMPLES)])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return MeanInterval(float(array.mean()), float(low), float(high))


def mean_difference_interval(values: Sequence[float], reference: Sequence[float], seed: int = 0) -> MeanInterval:
    """Mean of `values` minus `reference` over the same faces, with the interval of the paired difference.

    Two means whose intervals overlap may still differ for certain when each face improved; this one sees it.

    Args:
        values: One number per face.
        reference: The numbers of the same faces in the same order.
        seed: As in `mean_interval`.

    Returns:
        Mean difference and its interval, which excludes 0 if the difference is significant at 5 %.

    Raises:
        ValueError: If the lists differ in length, are empty or not finite.
    """
    if len(values) != len(reference):
        raise ValueError(
            f"a paired difference needs the same faces twice, got {len(values)} and {len(reference)} values"
        )
    return mean_interval([a - b for a, b in zip(values, reference, strict=True)], seed)
