"""Degradation synthesis on the device of the batch: applies sampled parameters, draws nothing itself."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import astuple
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from torch import Tensor

from data.degradation import operators
from data.degradation.sampling import BlurKernel, BlurKind, DegradationParameters, MaskShapes, RoundParameters
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
        for index in range(max((len(drawn.rounds) for drawn in parameters), default=0)):
            rounds = {i: drawn.rounds[index] for i, drawn in enumerate(parameters) if index < len(drawn.rounds)}
            images = _apply_round(images, rounds)
        images = _apply_masks(_apply_jitter(images, parameters), parameters)
        degraded = unit_to_model(images).clamp_(-1, 1)
        greys = [i for i, drawn in enumerate(parameters) if drawn.grey]
        grey_targets = [i for i in greys if parameters[i].grey_target]
        return Degraded(_make_grey(degraded, greys), _make_grey(target, grey_targets))


def _apply_round(images: Tensor, rounds: dict[int, RoundParameters]) -> Tensor:
    """One round for the images that have it; images in [0, 1]."""
    if not rounds:
        return images
    resolution, results = images.shape[-1], list(images.split(1))
    kernels = _kernels({i: drawn.blur for i, drawn in rounds.items() if drawn.blur is not None}, images.device)
    small = {}
    for i, drawn in rounds.items():
        image, size, mode = results[i], int(resolution / drawn.downscale), drawn.downscale_mode
        if drawn.blur is None:
            image = operators.resize(image, size, mode)
        else:
            image = operators.blur_and_resize(image, kernels[i], size, mode)
        small[i] = operators.round_to_8_bits(operators.add_noise(image, drawn))
    jpeg = {i: drawn.jpeg_quality for i, drawn in rounds.items() if drawn.jpeg_quality is not None}
    webp = {i: drawn.webp_quality for i, drawn in rounds.items() if drawn.webp_quality is not None}
    small |= _compress(small, jpeg)
    small |= {i: operators.compress_webp(small[i], quality) for i, quality in webp.items()}
    for i, image in small.items():
        large = operators.resize(image, resolution, rounds[i].upscale_mode)
        results[i] = large.clamp_(0, 1) if "bicubic" in rounds[i].upscale_mode else large
    return torch.cat(results).contiguous(memory_format=torch.channels_last)  # one layout, whichever images had a round


def _kernels(blurs: dict[int, BlurKernel], device: torch.device) -> dict[int, Tensor]:
    """[K, K] of each image; those of one kind and size are drawn together."""
    kernels: dict[int, Tensor] = {}
    groups = _groups({i: (blur.kind, blur.kernel_size_pixels) for i, blur in blurs.items()})
    for (kind, size), indices in groups.items():
        numbers = [astuple(blurs[i])[2:] for i in indices]  # what stands behind kind and size
        flat = to_device([value for row in numbers for value in row], device, torch.float32)
        kernels |= dict(zip(indices, _kernels_of_kind(kind, flat.view(-1, 6), size), strict=True))
    return kernels


def _kernels_of_kind(kind: BlurKind, numbers: Tensor, size: int) -> Tensor:
    """[N, K, K] from the numbers of N kernels, [N, 6]."""
    sigma_x, sigma_y, length, angle, power, cutoff = numbers.unbind(1)
    if kind == "motion":
        return operators.motion_kernels(length, angle, size)
    if kind == "sinc":
        return operators.sinc_kernels(cutoff, size)
    if kind == "generalised":
        return operators.generalised_kernels(sigma_x, sigma_y, angle, power, size)
    if kind == "plateau":
        return operators.plateau_kernels(sigma_x, sigma_y, angle, power, size)
    return operators.gaussian_kernels(sigma_x, sigma_y, angle, size)


def _compress(images: dict[int, Tensor], qualities: dict[int, int]) -> dict[int, Tensor]:
    """JPEG for the images that have a quality; those that share a canvas together."""
    compressed: dict[int, Tensor] = {}
    sizes = {i: images[i].shape[-1] for i in qualities}
    for canvas, indices in _groups({i: operators.canvas_size(size) for i, size in sizes.items()}).items():
        together = torch.cat([operators.fill_canvas(images[i], canvas) for i in indices]).contiguous()
        results = operators.compress_jpeg(together, [qualities[i] for i in indices]).split(1)
        compressed |= {i: image[..., : sizes[i], : sizes[i]] for i, image in zip(indices, results, strict=True)}
    return compressed


def _apply_jitter(images: Tensor, parameters: Sequence[DegradationParameters]) -> Tensor:
    """Brightness, then contrast, then saturation of the images that have any; in [0, 1]."""
    factors = [(drawn.brightness, drawn.contrast, drawn.saturation) for drawn in parameters]
    indices = [i for i, factor in enumerate(factors) if factor != (1.0, 1.0, 1.0)]
    if not indices:
        return images
    brightness, contrast, saturation = torch.tensor([factors[i] for i in indices], dtype=torch.float32).unbind(1)
    changed = adjust_brightness_accumulative(_select(images, indices), brightness)
    changed = adjust_contrast_with_mean_subtraction(changed, contrast)
    return _replace(images, indices, adjust_saturation_with_gray_subtraction(changed, saturation))


def _apply_masks(images: Tensor, parameters: Sequence[DegradationParameters]) -> Tensor:
    """Paints over the images that have a mask; in [0, 1]."""
    masks = {i: drawn.mask for i, drawn in enumerate(parameters) if drawn.mask is not None}
    if not masks:
        return images
    results = list(images.split(1))
    for i, shapes in masks.items():
        results[i] = results[i].masked_fill(draw_mask(shapes, images.shape[-1], images.device), shapes.fill)
    return torch.cat(results).contiguous(memory_format=torch.channels_last)


def _make_grey(images: Tensor, indices: Sequence[int]) -> Tensor:
    if not indices:
        return images
    return _replace(images, indices, rgb_to_grayscale(_select(images, indices)).expand(-1, 3, -1, -1))


def _groups(keys: dict[int, Key]) -> dict[Key, list[int]]:
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
    if target.ndim != 4 or target.shape[1] != 3 or target.shape[2] != target.shape[3]:
        raise ValueError(f"target must be [N, 3, R, R], got {list(target.shape)}; crop the faces to squares first")
    if target.dtype != torch.float32:
        raise ValueError(f"target must be float32 in [-1, 1], got {target.dtype}; use data.ranges to convert")
    if len(parameters) != len(target):
        raise ValueError(f"every image needs its own parameters, got {len(parameters)} for {len(target)} images")
    wrong = {drawn.resolution for drawn in parameters} - {target.shape[-1]}
    if wrong:
        raise ValueError(
            f"parameters were sampled for {min(wrong)} pixels but the target has {target.shape[-1]}; sample them again"
        )


def to_device(numbers: Sequence[float] | Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copies N plain numbers to a device, [N]. On a GPU the copy is queued from pinned memory: an ordinary
    `torch.tensor(..., device=...)` would stop the host until all queued kernels have run."""
    on_host = torch.tensor(numbers, dtype=dtype)
    return on_host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_host.to(device)


def draw_mask(shapes: MaskShapes, resolution: int, device: torch.device) -> Tensor:
    """Draws what is painted over, bool [R, R]: whether the middle of a pixel lies within a box, or within half a
    brush's width of a stroke."""
    axis = torch.arange(resolution, device=device, dtype=torch.float32)
    mask = torch.zeros(resolution, resolution, dtype=torch.bool, device=device)
    for left, top, right, bottom in shapes.boxes:
        mask[top:bottom, left:right] = True
    for stroke in shapes.strokes:
        for (x0, y0), (x1, y1) in pairwise(stroke.points):
            columns, rows = axis[None, :] - x0, axis[:, None] - y0
            squared_length = (x1 - x0) ** 2 + (y1 - y0) ** 2
            # How far along the segment its nearest point lies.
            along = ((columns * (x1 - x0) + rows * (y1 - y0)) / max(squared_length, 1e-12)).clamp(0, 1)
            distance = torch.hypot(columns - along * (x1 - x0), rows - along * (y1 - y0))  # [R, R]
            mask |= distance <= stroke.width / 2
    return mask
