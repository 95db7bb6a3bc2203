"""Photographs as tensors and batches: the images of a run, in the order of the run."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from data.faces.broken import BrokenFaces
from data.faces.files import FaceFiles
from data.run_order import is_flipped, photograph_and_substitutes

_NOTHING = -1
_MOST_READERS = 256


class RunImage(NamedTuple):
    """One image of a run."""

    target: Tensor
    """uint8 [3, R, R], [0, 255]."""
    image_index: int
    """k, its place in the run."""
    is_substitute: bool = False
    """Whether it stands in for a photograph whose file is broken."""


class FaceBatch(NamedTuple):
    """What the data loader yields."""

    target: Tensor
    """uint8 [N, 3, R, R], [0, 255]."""
    image_indices: list[int]
    """Image index in the run of each of the N; stays on the host, where randomness is derived from it."""
    num_substituted: int = 0
    """How many of the N stand in for photographs whose files are broken."""


class FaceImages(Dataset[Tensor]):
    """The photographs of a set as square tensors, in the order of their names.

    Args:
        faces: The photographs.
        resolution: R, width and height of the tensors in pixels.
        cache_bytes: Resized images are kept in memory up to this many bytes in each worker process; 0 keeps none.

    Raises:
        ValueError: If the resolution or the cache has no sensible size.
    """

    def __init__(self, faces: FaceFiles, resolution: int, cache_bytes: int = 0) -> None:
        if resolution < 1 or cache_bytes < 0:
            raise ValueError(
                f"resolution must be at least 1 and cache_bytes at least 0, got {resolution} and {cache_bytes}"
            )
        self.faces = faces
        self.resolution = resolution
        self._max_cached = cache_bytes // (3 * resolution**2)
        self._cache: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.faces)

    def __getitem__(self, index: int) -> Tensor:
        """Reads one photograph, crops the central square and resizes it.

        Args:
            index: Position in the set.

        Returns:
            uint8 [3, R, R], [0, 255], the caller's own.

        Raises:
            ValueError: If the file is not a usable image.
            IndexError: If there is no such photograph.
        """
        cached = self._cache.get(index)
        if cached is not None:
            return cached.clone()
        pixels = np.array(_to_square(self.faces.read(index), self.resolution))  # [R, R, 3]
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # [3, R, R]
        if len(self._cache) < self._max_cached:
            self._cache[index] = image.clone()
        return image


class RunImages(Dataset[RunImage]):
    """The images of a training run: position k gives the k-th image, for every k from 0 on.

    Args:
        faces: The training set.
        resolution: R, width and height in pixels.
        seed: Seed of the run.
        flip_probability: Of mirroring an image left to right, [0, 1].
        cache_bytes: As in `FaceImages`.
        broken: Where files that cannot be used are noted while others stand in for them; None ends the run at the
            first.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        faces: FaceFiles,
        resolution: int,
        seed: int,
        flip_probability: float = 0.5,
        cache_bytes: int = 0,
        broken: BrokenFaces | None = None,
    ) -> None:
        if not 0 <= flip_probability <= 1:
            raise ValueError(f"flip_probability must lie in [0, 1], got {flip_probability}")
        self.images = FaceImages(faces, resolution, cache_bytes)
        self.seed = seed
        self.flip_probability = flip_probability
        self.broken = broken
        # What each process reads at the moment, in memory that outlives it: a decoder may crash without a word.
        self._reading = torch.full((_MOST_READERS,), _NOTHING).share_memory_()

    def __getitem__(self, image_index: int) -> RunImage:
        """Reads the k-th image of the run.

        Args:
            image_index: k, at least 0.

        Returns:
            The image; the same for the same k as long as the same files are broken.

        Raises:
            ValueError: If too many files are broken.
            OSError: If the whole set is gone, or broken files cannot be noted.
        """
        image, is_substitute = self._read(image_index)
        if is_flipped(self.seed, image_index, self.flip_probability):
            image = image.flip(-1)
        return RunImage(image, image_index, is_substitute)

    def _read(self, image_index: int) -> tuple[Tensor, bool]:
        """The photograph of the k-th image, or the first of its substitutes that can be used."""
        worker = get_worker_info()
        process = 0 if worker is None else worker.id % _MOST_READERS
        candidates = photograph_and_substitutes(self.seed, image_index, len(self.images))
        for attempt, photograph in enumerate(candidates):
            if self.broken is not None and self.broken.is_deadly(photograph):
                continue
            self._reading[process] = photograph
            try:
                image = self.images[photograph]
            except ValueError as error:
                if self.broken is None:
                    raise
                self.broken.add(photograph, str(error))
            else:
                self._reading[process] = _NOTHING
                return image, attempt > 0
        raise AssertionError("BrokenFaces lets at least one photograph be whole")

    def being_read(self) -> list[str]:
        """The files that the readers hold open at this moment; after the death of one, what it may have died of."""
        return [self.images.faces.source(index) for index in self.positions_being_read()]

    def positions_being_read(self) -> list[int]:
        """The same as positions in the set."""
        return [int(index) for index in self._reading if index != _NOTHING]


class RunBatches:
    """Batch sampler of a run: global batch i holds the images [i·B, (i+1)·B), each process an equal, contiguous share.

    Resuming is constructing it again with the images already seen as `first_image`.

    Args:
        first_image: Images seen so far by all processes together, whole batches.
        total_images: Images at which the run ends; a last batch that would not be full is left out.
        batch_size: B, images per batch of all processes together.
        rank: This process, [0, num_ranks).
        num_ranks: Number of processes.

    Raises:
        ValueError: If the numbers do not fit together.
    """

    def __init__(self, first_image: int, total_images: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> None:
        if batch_size < 1 or num_ranks < 1 or batch_size % num_ranks:
            raise ValueError(
                f"the batch size must be divisible by the number of processes, got {batch_size} images for "
                f"{num_ranks} processes; change one of them"
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


def collate_faces(samples: Sequence[RunImage]) -> FaceBatch:
    """Stacks N samples of `RunImages`."""
    return FaceBatch(
        torch.stack([sample.target for sample in samples]),  # [N, 3, R, R]
        [int(sample.image_index) for sample in samples],
        sum(sample.is_substitute for sample in samples),
    )


def _to_square(image: Image.Image, resolution: int) -> Image.Image:
    """Crops the central square and resizes it with Pillow's Lanczos filter, which antialiases when it shrinks."""
    side = min(image.size)
    if image.width != image.height:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if side == resolution:
        return image
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS)
