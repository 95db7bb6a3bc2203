"""Gradient accumulation: each process computes its share of a batch in equal parts, one after the other."""

from collections.abc import Callable

from torch import Tensor

from data.dataset import FaceBatch


class ReusedTensor:
    """A tensor with its graph that an iteration needs twice, computed once where it `is_kept`.

    A batch of several parts computes it for each use, as memory would otherwise hold the graphs of all parts at once,
    which accumulation is there to avoid.
    """

    def __init__(self, compute: Callable[[], Tensor], is_kept: bool) -> None:
        self._compute = compute
        self._is_kept = is_kept
        self._kept: Tensor | None = None

    def __call__(self) -> Tensor:
        """Gives the tensor with its graph."""
        if self._kept is not None:
            return self._kept
        result = self._compute()
        if self._is_kept:
            self._kept = result
        return result


def split(batch: FaceBatch, num_parts: int) -> list[FaceBatch]:
    """Cuts the batch of a process into equal parts of neighbouring images; ValueError where it is no multiple of their
    number."""
    if num_parts == 1:
        return [batch]
    num_images = len(batch.image_indices)
    if num_images % num_parts:
        raise ValueError(f"{num_images} images per process cannot be divided into {num_parts} parts (run.num_parts)")
    size = num_images // num_parts
    starts = range(0, num_images, size)
    return [batch.part(start, size) for start in starts]


def check_division(
    batch_size: int, num_processes: int, num_parts: int, minibatch_group_size: int | None, path_length_shrink: int
) -> None:
    """Raises ValueError, with advice, unless a batch means the same however it is divided.

    Minibatch groups (None: the whole batch) and the images of the path length (one of `path_length_shrink`) are chosen
    by their position in the batch of all processes, so each part has to hold whole groups and whole shares.
    """
    number = num_processes * num_parts
    if batch_size < 1 or batch_size % number:
        raise ValueError(
            f"the batch size must be divisible by the number of processes times run.num_parts, got {batch_size} images "
            f"for {num_processes} processes with {num_parts} parts each; change one of them"
        )
    size = batch_size // number
    group = min(minibatch_group_size or batch_size, batch_size)
    if size % group:
        given = "null, the whole batch" if minibatch_group_size is None else minibatch_group_size
        raise ValueError(
            f"each part of a batch must hold whole minibatch groups, but {batch_size} images on {num_processes} "
            f"processes with {num_parts} parts are {size} images a part, which cannot be divided into groups of "
            f"{group} (minibatch_group_size {given}); give a smaller group, a larger batch or fewer parts"
        )
    if number > 1 and size % path_length_shrink:
        raise ValueError(
            f"each part of a batch must be a multiple of path_length_batch_shrink {path_length_shrink}, got {size} "
            "images a part; change it, or use a larger batch or fewer parts"
        )
