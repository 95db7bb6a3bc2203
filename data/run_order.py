"""Which photograph the k-th image of a run is and whether it is flipped, of (seed, k) alone; which process reads it."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.randomness import derive_seed
from system.counting import counted


def photograph_of(seed: int, image_index: int, num_photographs: int) -> int:
    """Says which photograph of the training set, [0, num_photographs), the k-th image of the run is; every epoch shows
    each once in a fresh order. ValueError where there is no photograph or k is negative."""
    if num_photographs < 1 or image_index < 0:
        raise ValueError(
            f"the order of a run needs at least one photograph and an image index of 0 or more, "
            f"got {num_photographs} photographs and index {image_index}"
        )
    epoch, position = divmod(image_index, num_photographs)
    return int(_permutation(derive_seed(seed, "order", epoch), num_photographs)[position])


def photograph_and_substitutes(seed: int, image_index: int, num_photographs: int) -> Iterator[int]:
    """Lists the photograph of the k-th image and those that stand in for it, one after another, if it cannot be used:
    first `photograph_of`, then all in an order of this image's own. So what is shown depends on (seed, k) and on which
    files are broken, not on who reads them or when."""
    yield photograph_of(seed, image_index, num_photographs)
    yield from _permutation(derive_seed(seed, "substitute", image_index), num_photographs).tolist()


def is_flipped(seed: int, image_index: int, probability: float) -> bool:
    """Says whether the k-th image of the run is mirrored left to right; always the same for the same (seed, k)."""
    return _happens(seed, "flip", image_index, probability)


def is_synthetic(seed: int, image_index: int, share: float) -> bool:
    """Says whether the k-th image of a run on stored pairs is degraded by the preset all the same, as a share of images
    is; always the same for the same (seed, k)."""
    return _happens(seed, "synthetic", image_index, share)


def _happens(seed: int, purpose: str, image_index: int, probability: float) -> bool:
    return derive_seed(seed, purpose, image_index) < probability * 2**63


class RunBatches:
    """Batch sampler of a run: global batch i holds the images [i·B, (i+1)·B), each process an equal, contiguous share.

    Resuming is constructing it again with the images already seen, whole batches, as `first_image`. A last batch that
    would not be full is left out. Raises ValueError where the numbers do not fit together.
    """

    def __init__(self, first_image: int, total_images: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> None:
        if batch_size < 1 or num_ranks < 1 or batch_size % num_ranks:
            raise ValueError(
                f"the batch size must be divisible by the number of processes, got {counted(batch_size, 'image')} for "
                f"{counted(num_ranks, 'process')}; change one of them"
            )
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank must lie in [0, {num_ranks}), got {rank}")
        if first_image < 0 or total_images < 0 or first_image % batch_size:
            raise ValueError(
                f"a run must start after whole batches, got {first_image} of {total_images} images with batch size "
                f"{batch_size}; resume with the batch size the run began with"
            )
        self.first_batch = first_image // batch_size
        self.end_batch = total_images // batch_size
        self.batch_size = batch_size
        self.rank = rank
        self.num_ranks = num_ranks

    def __len__(self) -> int:
        """Batches left in the run."""
        return max(0, self.end_batch - self.first_batch)

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this process's image indices, batch by batch."""
        share = self.batch_size // self.num_ranks
        for batch in range(self.first_batch, self.end_batch):
            start = batch * self.batch_size + self.rank * share
            yield list(range(start, start + share))


@lru_cache(maxsize=4)  # a batch may span two epochs; training and validation may run side by side
def _permutation(epoch_seed: int, num_photographs: int) -> NDArray[np.int64]:
    """Order of one epoch: raw Philox words sorted, as numpy keeps those across versions but not its shuffling."""
    words = np.random.Philox(key=epoch_seed).random_raw(num_photographs)
    return np.argsort(words, kind="stable")
