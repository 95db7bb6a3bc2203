"""Which photograph the k-th image of a run is and whether it is flipped: functions of (seed, k) alone."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.randomness import derive_seed


def photograph_of(seed: int, image_index: int, num_photographs: int) -> int:
    """Says which photograph the k-th image of the run is; every epoch shows each photograph once in a fresh order.

    Args:
        seed: Seed of the run.
        image_index: k, at least 0.
        num_photographs: Photographs in the training set, at least 1.

    Returns:
        Position of the photograph in the training set, [0, num_photographs).

    Raises:
        ValueError: If there is no photograph or k is negative.
    """
    if num_photographs < 1 or image_index < 0:
        raise ValueError(
            f"the order of a run needs at least one photograph and an image index of 0 or more, "
            f"got {num_photographs} photographs and index {image_index}"
        )
    epoch, position = divmod(image_index, num_photographs)
    return int(_permutation(derive_seed(seed, "order", epoch), num_photographs)[position])


def photograph_and_substitutes(seed: int, image_index: int, num_photographs: int) -> Iterator[int]:
    """Lists the photograph of the k-th image and those that stand in for it, one after another, if it cannot be used.

    So what is shown depends on (seed, k) and on which files are broken, not on who reads them or when.

    Args:
        seed: Seed of the run.
        image_index: k, at least 0.
        num_photographs: Photographs in the training set, at least 1.

    Yields:
        Positions in the training set: first `photograph_of`, then all in an order of this image's own.
    """
    yield photograph_of(seed, image_index, num_photographs)
    yield from _permutation(derive_seed(seed, "substitute", image_index), num_photographs).tolist()


def is_flipped(seed: int, image_index: int, probability: float) -> bool:
    """Says whether the k-th image of the run is mirrored left to right.

    Args:
        seed: Seed of the run.
        image_index: k, at least 0.
        probability: Of being mirrored, [0, 1].

    Returns:
        True with the given probability; always the same for the same (seed, k).
    """
    return derive_seed(seed, "flip", image_index) < probability * 2**63


@lru_cache(maxsize=4)  # a batch may span two epochs; training and validation may run side by side
def _permutation(epoch_seed: int, num_photographs: int) -> NDArray[np.int64]:
    """Order of one epoch: raw Philox words sorted, as numpy keeps those across versions but not its shuffling."""
    words = np.random.Philox(key=epoch_seed).random_raw(num_photographs)
    return np.argsort(words, kind="stable")
