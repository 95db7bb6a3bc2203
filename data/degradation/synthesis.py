"""Degradation synthesis on the device of the batch: applies sampled parameters, draws nothing itself."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeVar

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from torch import Tensor

from data.degradation.blur import (
    blur_and_resize,
    gaussian_kernels,
    generalised_kernels,
    motion_kernels,
    plateau_kernels,
    sinc_kernels,
)
from data.degradation.compression import compress_jpeg, compress_webp, round_to_8_bits
from data.degradation.masks import draw_mask
from data.degradation.noise import add_noise
from data.degradation.parameters import BlurKernel, BlurKind, DegradationParameters, RoundParameters
from data.degradation.resampling import canvas_size, fill_canvas, resize
from data.ranges import model_to_unit, unit_to_model

Key = TypeVar("Key", bound=Hashable)


class Degraded(NamedTuple):
    """A pair to train on."""

    degraded: Tensor
    """[N, 3, R, R], float32, [-1, 1]."""
    target: Tensor
    """[N, 3, R, R], float32, [-1, 1]; the given target, grey where the parameters say so."""


@torch.no_grad()
def degrade(target: Tensor, parameters: Sequence[DegradationParameters]) -> Degraded:
    """Degrades clean faces [N, 3, R, R], float32, [-1, 1], on any device, every one with its own parameters for R.

    An image's result depends on its own pixels and parameters (and on the kind of device, which draws the noise), not
    on the rest of the batch. Computed in float32, also under autocast. Raises ValueError where shape, type, number of
    parameters or their resolution do not fit.

    Source: Equation 4 of arXiv 2105.06070. With two rounds each ends at the full resolution, where Real-ESRGAN (arXiv
    2107.10833) goes on at the low one.
    """
    _check(target, parameters)
    with torch.autocast(target.device.type, enabled=False):
        images = model_to_unit(target)
        for index in range(max((len(one.rounds) for one in parameters), default=0)):
            rounds = {i: one.rounds[index] for i, one in enumerate(parameters) if index < len(one.rounds)}
            images = _apply_round(images, rounds)
        images = _apply_masks(_apply_jitter(images, parameters), parameters)
        degraded = unit_to_model(images).clamp_(-1, 1)
        greys = [i for i, one in enumerate(parameters) if one.grey]
        grey_targets = [i for i in greys if parameters[i].grey_target]
        return Degraded(_make_grey(degraded, greys), _make_grey(target, grey_targets))


def _apply_round(images: Tensor, rounds: dict[int, RoundParameters]) -> Tensor:
    """One round for the images that have it; images in [0, 1]."""
    if not rounds:
        return images
    resolution, results = images.shape[-1], list(images.split(1))
    kernels = _kernels({i: one.blur for i, one in rounds.items() if one.blur is not None}, images.device)
    small = {}
    for i, one in rounds.items():
        size = int(resolution / one.downscale)
        mode = one.downscale_mode
        blurred = (
            resize(results[i], size, mode) if one.blur is None else blur_and_resize(results[i], kernels[i], size, mode)
        )
        small[i] = round_to_8_bits(add_noise(blurred, one))
    qualities = {i: one.jpeg_quality for i, one in rounds.items() if one.jpeg_quality is not None}
    small |= _compress(small, qualities)
    small |= {i: compress_webp(small[i], q) for i, one in rounds.items() if (q := one.webp_quality) is not None}
    for i, image in small.items():
        large = resize(image, resolution, rounds[i].upscale_mode)
        results[i] = large.clamp_(0, 1) if "bicubic" in rounds[i].upscale_mode else large
    return torch.cat(results).contiguous(memory_format=torch.channels_last)  # one layout, whichever images had a round


def _kernels(blurs: dict[int, BlurKernel], device: torch.device) -> dict[int, Tensor]:
    """[K, K] of each image; those of one kind and size are drawn together."""
    kernels: dict[int, Tensor] = {}
    for (kind, size), indices in _groups({i: (one.kind, one.kernel_size_pixels) for i, one in blurs.items()}).items():
        numbers = [
            (
                one.sigma_x_pixels,
                one.sigma_y_pixels,
                one.length_pixels,
                one.angle_radians,
                one.power,
                one.cutoff_radians,
            )
            for one in (blurs[i] for i in indices)
        ]
        flat = to_device([value for row in numbers for value in row], device, torch.float32)
        kernels |= dict(zip(indices, _kernels_of_kind(kind, flat.view(-1, 6), size), strict=True))
    return kernels


def _kernels_of_kind(kind: BlurKind, numbers: Tensor, size: int) -> Tensor:
    """[N, K, K] from the numbers of N kernels, [N, 6]."""
    sigma_x, sigma_y, length, angle, power, cutoff = numbers.unbind(1)
    if kind == "motion":
        return motion_kernels(length, angle, size)
    if kind == "sinc":
        return sinc_kernels(cutoff, size)
    if kind == "generalised":
        return generalised_kernels(sigma_x, sigma_y, angle, power, size)
    if kind == "plateau":
        return plateau_kernels(sigma_x, sigma_y, angle, power, size)
    return gaussian_kernels(sigma_x, sigma_y, angle, size)


def _compress(images: dict[int, Tensor], qualities: dict[int, int]) -> dict[int, Tensor]:
    """JPEG for the images that have a quality; those that share a canvas together."""
    compressed: dict[int, Tensor] = {}
    sizes = {i: images[i].shape[-1] for i in qualities}
    for canvas, indices in _groups({i: canvas_size(size) for i, size in sizes.items()}).items():
        together = torch.cat([fill_canvas(images[i], canvas) for i in indices]).contiguous()
        results = compress_jpeg(together, [qualities[i] for i in indices]).split(1)
        compressed |= {i: one[..., : sizes[i], : sizes[i]] for i, one in zip(indices, results, strict=True)}
    return compressed


def _apply_jitter(images: Tensor, parameters: Sequence[DegradationParameters]) -> Tensor:
    """Brightness, then contrast, then saturation of the images that have any; in [0, 1]."""
    factors = [(one.brightness, one.contrast, one.saturation) for one in parameters]
    indices = [i for i, one in enumerate(factors) if one != (1.0, 1.0, 1.0)]
    if not indices:
        return images
    brightness, contrast, saturation = torch.tensor([factors[i] for i in indices], dtype=torch.float32).unbind(1)
    changed = adjust_brightness_accumulative(_select(images, indices), brightness)
    changed = adjust_contrast_with_mean_subtraction(changed, contrast)
    return _replace(images, indices, adjust_saturation_with_gray_subtraction(changed, saturation))


def _apply_masks(images: Tensor, parameters: Sequence[DegradationParameters]) -> Tensor:
    """Paints over the images that have a mask; in [0, 1]."""
    masks = {i: one.mask for i, one in enumerate(parameters) if one.mask is not None}
    if not masks:
        return images
    results = list(images.split(1))
    for i, shapes in masks.items():
        results[i] = results[i].masked_fill(draw_mask(shapes, images.shape[-1], images.device), shapes.fill)
    return torch.cat(results).contiguous(memory_format=torch.channels_last)


def _make_grey(images: Tensor, indices: Sequence[int]) -> Tensor:
    """Replaces the chosen images by their luma on all channels."""
    if not indices:
        return images
    return _replace(images, indices, rgb_to_grayscale(_select(images, indices)).expand(-1, 3, -1, -1))


def _groups(keys: dict[int, Key]) -> dict[Key, list[int]]:
    """Image indices by key."""
    groups: dict[Key, list[int]] = defaultdict(list)
    for index, key in keys.items():
        groups[key].append(index)
    return groups


def _select(images: Tensor, indices: Sequence[int]) -> Tensor:
    """The chosen images; all of them without a copy."""
    if len(indices) == len(images):
        return images
    return images.index_select(0, to_device(indices, images.device, torch.int64))


def _replace(images: Tensor, indices: Sequence[int], new: Tensor) -> Tensor:
    """A batch with the chosen images replaced; the given batch stays as it is."""
    if len(indices) == len(images):
        return new
    return images.index_copy(0, to_device(indices, images.device, torch.int64), new)


def _check(target: Tensor, parameters: Sequence[DegradationParameters]) -> None:
    """Raises if the batch and its parameters do not belong together."""
    if target.ndim != 4 or target.shape[1] != 3 or target.shape[2] != target.shape[3]:
        raise ValueError(f"target must be [N, 3, R, R], got {list(target.shape)}; crop the faces to squares first")
    if target.dtype != torch.float32:
        raise ValueError(f"target must be float32 in [-1, 1], got {target.dtype}; use data.ranges to convert")
    if len(parameters) != len(target):
        raise ValueError(f"every image needs its own parameters, got {len(parameters)} for {len(target)} images")
    wrong = {one.resolution for one in parameters} - {target.shape[-1]}
    if wrong:
        raise ValueError(
            f"parameters were sampled for {min(wrong)} pixels but the target has {target.shape[-1]}; sample them again"
        )


def to_device(numbers: Sequence[float] | Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copies N plain numbers to a device, [N]. On a GPU the copy is queued from pinned memory: an ordinary
    `torch.tensor(..., device=...)` would stop the host until all queued kernels have run."""
    on_host = torch.tensor(numbers, dtype=dtype)
    return on_host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_host.to(device)
