"""The only root of randomness: a seed is a function of (seed of the run, purpose, index); what a run draws by it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def derive_seed(seed: int, purpose: str, index: int) -> int:
    """Derives an independent seed in [0, 2^63); every random draw of the project starts from one.

    No global generator is ever read, so the k-th image of a run is the same photograph with the same flip, degradation,
    latent and noise whatever the number of processes, workers or restarts. Two purposes never share a stream; 0 is a
    seed like any other.

    Source: BLAKE2b (RFC 7693) of the text "seed/purpose/index": the same on every machine and in every version.
    """
    digest = blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


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


@lru_cache(maxsize=4)  # a batch may span two epochs; training and validation may run side by side
def _permutation(epoch_seed: int, num_photographs: int) -> NDArray[np.int64]:
    """Order of one epoch: raw Philox words sorted, as numpy keeps those across versions but not its shuffling."""
    words = np.random.Philox(key=epoch_seed).random_raw(num_photographs)
    return np.argsort(words, kind="stable")


Shape = tuple[int, ...]


def draw_normal(
    shape: Shape, seed: int, purpose: str, image_indices: Sequence[int], device: torch.device | str
) -> Tensor:
    """Draws N(0, 1) for each image of a batch, [N, *shape]; row i depends on (seed, purpose, image_indices[i]) alone,
    and on the kind of device, as processors of different kinds draw different numbers."""
    drawn = torch.empty(len(image_indices), *shape, device=device)
    generator = torch.Generator(device)
    for row, image_index in zip(drawn, image_indices, strict=True):
        row.normal_(generator=generator.manual_seed(derive_seed(seed, purpose, image_index)))
    return drawn


def draw_noises(
    shapes: Sequence[tuple[int, int, int]],
    seed: int,
    purpose: str,
    image_indices: Sequence[int],
    device: torch.device | str,
) -> list[Tensor]:
    """Draws the noise of every layer of the synthesis network, as `draw_normal`: one [N, C, H, W] per layer of
    `SynthesisNetwork.noise_shapes`, in channels_last layout."""
    sizes = [math.prod(shape) for shape in shapes]
    flat = draw_normal((sum(sizes),), seed, purpose, image_indices, device)  # one draw per image, not per layer
    parts = flat.split(sizes, dim=1)
    return [
        part.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        for part, (channels, height, width) in zip(parts, shapes, strict=True)
    ]


def draw_crossovers(probability: float, num_styles: int, seed: int, image_indices: Sequence[int]) -> Tensor:
    """Draws where style mixing switches to the second latent, with a probability of mixing at all: [N] int64 on the
    host, the first layer of the second latent, L where the image is not mixed.

    Source: StyleGAN (arXiv 1812.04948) section 3.1.
    """
    crossovers = []
    for image_index in image_indices:
        random = np.random.Generator(np.random.Philox(key=derive_seed(seed, "style mixing", image_index)))
        mixed, layer = random.random() < probability, int(random.integers(1, num_styles))
        crossovers.append(layer if mixed else num_styles)
    return torch.tensor(crossovers)


@contextmanager
def seeded_initialization(seed: int, purpose: str) -> Iterator[None]:
    """Networks built inside start from weights that depend on (seed, purpose) alone; global state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, purpose, 0))
        yield
