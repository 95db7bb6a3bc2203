"""Photographs as tensors and batches: the images of a run, in the order of the run."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from data.faces.broken import BrokenFaces
from data.faces.files import FaceFiles
from data.randomness import is_flipped, is_synthetic, photograph_and_substitutes
from system.wording import counted

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
    degraded: Tensor | None = None
    """uint8 [3, R, R], its stored degraded version; None where it is to be degraded."""
    place: Tensor | None = None
    """What `locate` of `RunImages` gave of the target; None without it."""


class FaceBatch(NamedTuple):
    """What the data loader yields."""

    target: Tensor
    """uint8 [N, 3, R, R], [0, 255]."""
    image_indices: list[int]
    """Image index in the run of each of the N; stays on the host, where randomness is derived from it."""
    num_substituted: int = 0
    """How many of the N stand in for photographs whose files are broken."""
    degraded: Tensor | None = None
    """uint8 [M, 3, R, R], the degraded versions of those of the N that have a stored one; None where none has."""
    has_degraded: tuple[bool, ...] = ()
    """Of each of the N whether it is among these M; empty where none is."""
    places: Tensor | None = None
    """[N, …], what `locate` of `RunImages` gave of each; None without it."""

    def part(self, start: int, size: int) -> "FaceBatch":
        """Neighbouring images of the batch."""
        end = start + size
        has_degraded = self.has_degraded[start:end]
        first, number = sum(self.has_degraded[:start]), sum(has_degraded)
        degraded = self.degraded[first : first + number] if self.degraded is not None and number else None
        places = None if self.places is None else self.places[start:end]
        return FaceBatch(self.target[start:end], self.image_indices[start:end], 0, degraded, has_degraded, places)


class FaceImages(Dataset[Tensor]):
    """The photographs of a set as square tensors of R pixels, in the order of their names. Resized images are kept in
    memory up to `cache_bytes` in each worker process; ValueError where resolution or cache has no sensible size."""

    def __init__(self, faces: FaceFiles, resolution: int, cache_bytes: int = 0) -> None:
        if resolution < 1 or cache_bytes < 0:
            raise ValueError(
                f"resolution must be at least 1 and cache_bytes at least 0, got {resolution} and {cache_bytes}"
            )
        self.faces = faces
        self.resolution = resolution
        self._max_cached = cache_bytes // (3 * resolution**2)
        self._cache: dict[int, Tensor] = {}
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.faces)

    def __getitem__(self, index: int) -> Tensor:
        """Reads one photograph, crops the central square and resizes it: uint8 [3, R, R], the caller's own. Raises
        ValueError where the file is not a usable image, IndexError where there is no such photograph."""
        cached = self._cache.get(index)
        if cached is not None:
            return cached.clone()
        photograph = self.faces.read(index)
        self._sizes[index] = photograph.size
        pixels = np.array(_to_square(photograph, self.resolution))  # [R, R, 3]
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # [3, R, R]
        if len(self._cache) < self._max_cached:
            self._cache[index] = image.clone()
        return image

    def stored_size(self, index: int) -> tuple[int, int]:
        """Width and height in pixels of a photograph that was read before, upright and as it is stored."""
        return self._sizes[index]


class StoredPairs(NamedTuple):
    """Degraded versions of a training set that are stored beside it."""

    degraded: FaceFiles
    """In the order of the faces, from `data.faces.pairing.match_degraded`."""
    synthetic_share: float = 0.0
    """Of the images of a run that are degraded by the preset all the same, [0, 1]."""


class RunImages(Dataset[RunImage]):
    """The images of a training run: position k gives the k-th image, for every k from 0 on.

    Images of R pixels are mirrored left to right with a probability in [0, 1], and kept as by `FaceImages`. Files that
    cannot be used are noted in `broken` while others stand in for them; without it the first ends the run. Stored
    degraded versions are cropped and mirrored as their faces are. `locate` is asked for something about each image as
    it is trained on, such as where its landmarks lie: the host has the time for that.
    """

    def __init__(
        self,
        faces: FaceFiles,
        resolution: int,
        seed: int,
        flip_probability: float = 0.5,
        cache_bytes: int = 0,
        broken: BrokenFaces | None = None,
        pairs: StoredPairs | None = None,
        locate: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not 0 <= flip_probability <= 1:
            raise ValueError(f"flip_probability must lie in [0, 1], got {flip_probability}")
        if pairs is not None and len(pairs.degraded) != len(faces):
            raise ValueError(f"every face needs a degraded version, got {len(pairs.degraded)} for {len(faces)}")
        cache_bytes = cache_bytes if pairs is None else cache_bytes // 2
        self.images = FaceImages(faces, resolution, cache_bytes)
        self.pairs = pairs
        self.locate = locate
        self._degraded = None if pairs is None else FaceImages(pairs.degraded, resolution, cache_bytes)
        self.seed = seed
        self.flip_probability = flip_probability
        self.broken = broken
        # What each process reads at the moment, in memory that outlives it: a decoder may crash without a word.
        self._reading = torch.full((_MOST_READERS,), _NOTHING).share_memory_()

    def __getitem__(self, image_index: int) -> RunImage:
        """Reads the k-th image of the run: the same for the same k as long as the same files are broken. Raises
        ValueError where too many are, OSError where the whole set is gone, or broken files cannot be noted."""
        image = self._read(image_index)
        if is_flipped(self.seed, image_index, self.flip_probability):
            degraded = None if image.degraded is None else image.degraded.flip(-1)
            image = image._replace(target=image.target.flip(-1), degraded=degraded)
        return image if self.locate is None else image._replace(place=self.locate(image.target))

    def _read(self, image_index: int) -> RunImage:
        """The photograph of the k-th image, or the first of its substitutes that can be used."""
        takes_stored = self.pairs is not None and not is_synthetic(self.seed, image_index, self.pairs.synthetic_share)
        worker = get_worker_info()
        process = 0 if worker is None else worker.id % _MOST_READERS
        candidates = photograph_and_substitutes(self.seed, image_index, len(self.images))
        for attempt, photograph in enumerate(candidates):
            if self.broken is not None and self.broken.is_deadly(photograph):
                continue
            self._reading[process] = photograph
            try:
                target = self.images[photograph]
                degraded = self._degraded_version(photograph) if takes_stored else None
            except ValueError as error:
                if self.broken is None:
                    raise
                self.broken.add(photograph, str(error))
            else:
                self._reading[process] = _NOTHING
                return RunImage(target, image_index, attempt > 0, degraded)
        raise AssertionError("BrokenFaces lets at least one photograph be whole")

    def _degraded_version(self, photograph: int) -> Tensor:
        """The stored degraded version of a face that was just read, which must show as much of it."""
        assert self._degraded is not None  # asked for pairs only
        image = self._degraded[photograph]
        check_same_crop(self._degraded, self.images, photograph)
        return image

    def being_read(self) -> list[str]:
        """The files that the readers hold open at this moment; after the death of one, what it may have died of."""
        sets = [self.images.faces] + ([] if self.pairs is None else [self.pairs.degraded])
        return [faces.source(index) for index in self.positions_being_read() for faces in sets]

    def positions_being_read(self) -> list[int]:
        """The same as positions in the set."""
        return [int(index) for index in self._reading if index != _NOTHING]


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


def collate_faces(samples: Sequence[RunImage]) -> FaceBatch:
    """Stacks N samples of `RunImages`."""
    degraded = [sample.degraded for sample in samples if sample.degraded is not None]
    places = [sample.place for sample in samples if sample.place is not None]
    return FaceBatch(
        torch.stack([sample.target for sample in samples]),  # [N, 3, R, R]
        [int(sample.image_index) for sample in samples],
        sum(sample.is_substitute for sample in samples),
        torch.stack(degraded) if degraded else None,  # [M, 3, R, R]
        tuple(sample.degraded is not None for sample in samples) if degraded else (),
        torch.stack(places) if places else None,
    )


def check_same_crop(degraded: FaceImages, target: FaceImages, index: int) -> None:
    """Raises ValueError for a pair that was read of different shapes, to the nearest pixel of the smaller picture:
    their central squares show different parts of a face."""
    (width, height), (target_width, target_height) = degraded.stored_size(index), target.stored_size(index)
    if abs(width * target_height - target_width * height) > max(width, height, target_width, target_height):
        raise ValueError(
            f"{degraded.faces.source(index)} must show the same crop as its target, but they are {width} x {height} "
            f"and {target_width} x {target_height} pixels; crop them alike"
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
