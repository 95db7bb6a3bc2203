"""Degradation synthesis on the device of the batch: applies sampled parameters, draws nothing itself."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from torch import Tensor

from data.blur import blur, gaussian_kernels, motion_kernels
from data.degradation_parameters import BlurKernel, DegradationParameters, RoundParameters
from data.host_numbers import to_device
from data.jpeg import compress_jpeg, round_to_8_bits
from data.ranges import model_to_unit, unit_to_model
from data.resampling import canvas_size, resize_batch

Key = TypeVar("Key", bound=Hashable)


class Degraded(NamedTuple):
    """A pair to train on."""

    degraded: Tensor
    """[N, 3, R, R], float32, [-1, 1]."""
    target: Tensor
    """[N, 3, R, R], float32, [-1, 1]; the given target, grey where the parameters say so."""


@torch.no_grad()
def degrade(target: Tensor, parameters: Sequence[DegradationParameters]) -> Degraded:
    """Degrades a batch, every image with its own parameters.

    Args:
        target: Clean faces [N, 3, R, R], float32, [-1, 1], on any device.
        parameters: N parameters, sampled for resolution R.

    Returns:
        The degraded images and their targets. An image's result depends on its own pixels and parameters (and on the
        kind of device, which draws the noise), not on the rest of the batch. Computed in float32, also under autocast.

    Raises:
        ValueError: If the shape, the type, the number of parameters or their resolution does not fit.

    Source:
        Equation 4 of arXiv 2105.06070. With two rounds each ends at the full resolution, where Real-ESRGAN
        (arXiv 2107.10833) goes on at the low one.
    """
    _check(target, parameters)
    with torch.autocast(target.device.type, enabled=False):
        images = model_to_unit(target)
        for index in range(max((len(one.rounds) for one in parameters), default=0)):
            rounds = {i: one.rounds[index] for i, one in enumerate(parameters) if index < len(one.rounds)}
            images = _apply_round(images, rounds)
        images = _apply_jitter(images, parameters)
        degraded = unit_to_model(images).clamp(-1, 1)
        greys = [i for i, one in enumerate(parameters) if one.grey]
        grey_targets = [i for i in greys if parameters[i].grey_target]
        return Degraded(_make_grey(degraded, greys), _make_grey(target, grey_targets))


def draw_noise(seed: int, size: int, device: torch.device) -> Tensor:
    """Draws the N(0, 1) noise of one image, [1, 3, size, size]; a GPU draws other numbers from a seed than a CPU."""
    random = torch.Generator(device).manual_seed(seed)
    return torch.randn(1, 3, size, size, generator=random, device=device)


def _apply_round(images: Tensor, rounds: dict[int, RoundParameters]) -> Tensor:
    """One round for the images that have it; images in [0, 1]."""
    images = _apply_blur(images, {i: one.blur for i, one in rounds.items() if one.blur is not None})
    resolution = images.shape[-1]
    sizes = {i: int(resolution / one.downscale) for i, one in rounds.items()}
    # Only the small images differ in size, so they are processed in groups that share a canvas.
    keys = {i: (canvas_size(sizes[i]), one.jpeg_quality is not None) for i, one in rounds.items()}
    result = images
    for (canvas, compressed), indices in _groups(keys).items():
        group_rounds, group_sizes = [rounds[i] for i in indices], [sizes[i] for i in indices]
        full = [resolution] * len(indices)
        small = resize_batch(_select(images, indices), full, group_sizes, canvas)  # [n, 3, canvas, canvas]
        small = round_to_8_bits(_add_noise(small, group_rounds, group_sizes))
        if compressed:
            small = compress_jpeg(small, [one.jpeg_quality for one in group_rounds if one.jpeg_quality is not None])
        restored_size = resize_batch(small, group_sizes, full, resolution)  # [n, 3, R, R]
        result = _replace(result, indices, restored_size)
    return result


def _apply_blur(images: Tensor, kernels: dict[int, BlurKernel]) -> Tensor:
    """Blurs the images that have a kernel; one group per kind and size of kernel."""
    result = images
    keys = {i: (kernel.kind, kernel.kernel_size_pixels) for i, kernel in kernels.items()}
    for (kind, size), indices in _groups(keys).items():
        numbers = [
            (one.sigma_x_pixels, one.sigma_y_pixels, one.length_pixels, one.angle_radians)
            for one in (kernels[i] for i in indices)
        ]
        flat = to_device([value for row in numbers for value in row], images.device, torch.float32)
        sigma_x, sigma_y, length, angle = flat.view(-1, 4).unbind(1)
        if kind == "motion":
            weights = motion_kernels(length, angle, size)
        else:
            weights = gaussian_kernels(sigma_x, sigma_y, angle, size)
        result = _replace(result, indices, blur(_select(images, indices), weights))
    return result


def _add_noise(small: Tensor, rounds: Sequence[RoundParameters], sizes: Sequence[int]) -> Tensor:
    """Adds each image's own noise field; beyond the image the field repeats its edge, as the image itself does."""
    if all(one.noise_sigma == 0 for one in rounds):
        return small
    canvas = small.shape[-1]
    fields = []
    for one, size in zip(rounds, sizes, strict=True):
        noise = draw_noise(one.noise_seed, size, small.device)
        fields.append(F.pad(noise, (0, canvas - size, 0, canvas - size), mode="replicate"))
    sigma = to_device([one.noise_sigma / 255 for one in rounds], small.device, torch.float32)
    return small + torch.cat(fields) * sigma[:, None, None, None]


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
