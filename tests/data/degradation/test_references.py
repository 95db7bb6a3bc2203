"""Kernels, resize modes, noises, masks and WebP against OpenCV, scipy, Pillow and closed forms."""

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from PIL import Image
from scipy.spatial import cKDTree

from data.degradation.operators import (
    add_noise,
    blur_and_resize,
    compress_webp,
    draw_poisson_noise,
    gaussian_kernels,
    generalised_kernels,
    plateau_kernels,
    resize,
    sinc_kernels,
)
from data.degradation.presets import MaskRanges
from data.degradation.sampling import MaskShapes, RoundParameters, Stroke, sample_mask
from data.degradation.synthesis import draw_mask

CPU = torch.device("cpu")
NOTHING = RoundParameters(blur=None, downscale=1.0, noise_sigma=0.0, noise_seed=1, jpeg_quality=None)


def smooth(size: int) -> torch.Tensor:
    """[1, 3, size, size], multiples of 1/255."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (image * 255).round() / 255


def as_array(image: torch.Tensor) -> np.ndarray:
    """[H, W, 3] of [1, 3, H, W]."""
    return np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())


# --- kernels


def quadratic_form(sigma_x: float, sigma_y: float, angle: float, size: int) -> np.ndarray:
    """x^T Σ^-1 x on the pixels of a kernel, by the covariance matrix."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T)
    axis = np.arange(size) - size // 2
    places = np.stack(np.meshgrid(axis, axis), axis=-1)  # (x, y)
    return np.einsum("...i,ij,...j->...", places, inverse, places)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.7])
def test_generalised_and_plateau_kernels_equal_their_formulas_by_the_covariance(power: float) -> None:
    numbers = [torch.tensor([value]) for value in (2.0, 0.9, 0.6)]
    squares = quadratic_form(2.0, 0.9, 0.6, 15)
    for kernels, expected in (
        (generalised_kernels, np.exp(-0.5 * squares**power)),
        (plateau_kernels, 1 / (1 + squares**power)),
    ):
        kernel = kernels(*numbers, torch.tensor([power]), 15)[0].numpy()
        np.testing.assert_allclose(kernel, expected / expected.sum(), atol=2e-7)
    if power == 1.0:
        one = generalised_kernels(*numbers, torch.tensor([1.0]), 15)
        torch.testing.assert_close(one, gaussian_kernels(*numbers, 15), rtol=0, atol=1e-7)


def test_sinc_kernels_equal_scipys_bessel_function_and_cut_frequencies_off() -> None:
    axis = np.arange(21) - 10
    radius = np.hypot(*np.meshgrid(axis, axis))
    cutoffs = (math.pi / 3, 2.0, math.pi)
    kernels = sinc_kernels(torch.tensor(cutoffs), 21).numpy()
    for kernel, cutoff in zip(kernels, cutoffs, strict=True):
        with np.errstate(invalid="ignore"):
            expected = cutoff * scipy.special.j1(cutoff * radius) / (2 * math.pi * radius)
        expected[10, 10] = cutoff**2 / (4 * math.pi)
        np.testing.assert_allclose(kernel, expected / expected.sum(), atol=2e-7)
    response = np.abs(np.fft.fft2(kernels[0], (256, 256)))[0]  # along one axis
    frequencies = 2 * math.pi * np.arange(256) / 256
    assert (response[frequencies < 0.7 * cutoffs[0]] > 0.9).all()
    beyond = (frequencies > 1.5 * cutoffs[0]) & (frequencies < math.pi)
    assert response[beyond].max() < 0.1


@pytest.mark.parametrize("mode", ["area", "bicubic", "nearest", "antialiased_bicubic"])
@pytest.mark.parametrize("size", [7, 31])
def test_blurring_in_front_of_another_resize_mode_is_opencvs_filter(mode: str, size: int) -> None:
    image, kernel = smooth(64), sinc_kernels(torch.tensor([1.5]), size)[0]
    blurred = cv2.filter2D(as_array(image), -1, kernel.numpy(), borderType=cv2.BORDER_REFLECT_101)
    expected = resize(torch.from_numpy(blurred).permute(2, 0, 1)[None], 24, mode)
    torch.testing.assert_close(blur_and_resize(image, kernel, 24, mode), expected, rtol=0, atol=2e-6)


# --- resizing

OPENCV = {"bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}


@pytest.mark.parametrize("mode", OPENCV)
@pytest.mark.parametrize(("before", "after"), [(128, 99), (128, 16), (33, 20), (64, 1), (64, 64)])
def test_shrinking_by_each_mode_equals_opencv(mode: str, before: int, after: int) -> None:
    image = torch.rand(1, 3, before, before, generator=torch.Generator().manual_seed(before))
    expected = cv2.resize(as_array(image), (after, after), interpolation=OPENCV[mode])
    np.testing.assert_allclose(as_array(resize(image, after, mode)), expected, atol=2e-4)  # OpenCV's own rounding


@pytest.mark.parametrize("mode", ["bicubic", "nearest"])
@pytest.mark.parametrize(("before", "after"), [(16, 128), (20, 33), (9, 64)])
def test_enlarging_by_each_mode_equals_opencv(mode: str, before: int, after: int) -> None:
    image = torch.rand(1, 3, before, before, generator=torch.Generator().manual_seed(before))
    expected = cv2.resize(as_array(image), (after, after), interpolation=OPENCV[mode])
    np.testing.assert_allclose(as_array(resize(image, after, mode)), expected, atol=2e-4)


@pytest.mark.parametrize(("before", "after"), [(6, 9), (9, 6), (5, 8), (4, 16)])
def test_areas_are_exact_where_pixels_are_divided(before: int, after: int) -> None:
    image = torch.rand(1, 3, before, before, generator=torch.Generator().manual_seed(before))
    fine = (
        as_array(image).repeat(after, axis=0).repeat(after, axis=1)
    )  # each pixel in as many parts as there are new ones
    expected = fine.reshape(after, before, after, before, 3).mean((1, 3))
    np.testing.assert_allclose(as_array(resize(image, after, "area")), expected, atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(128, 32), (128, 98), (33, 64), (16, 128)])
def test_antialiased_bicubic_equals_pillow(before: int, after: int) -> None:
    image = torch.rand(1, 3, before, before, generator=torch.Generator().manual_seed(before))
    channels = [Image.fromarray(channel) for channel in image[0].numpy()]
    expected = np.stack([np.asarray(c.resize((after, after), Image.Resampling.BICUBIC)) for c in channels], axis=-1)
    np.testing.assert_allclose(as_array(resize(image, after, "antialiased_bicubic")), expected, atol=1e-5)


# --- noise


def test_photons_are_distributed_as_scipys_poisson_distribution() -> None:
    for level in (0.0, 20 / 255, 1.0):
        flat = torch.full((1, 3, 64, 64), level)
        noise = draw_poisson_noise(flat, 3, False)
        photons = ((noise + flat) * 256).round().numpy().ravel()
        rate = 256 * level
        if rate == 0:
            assert (photons == 0).all()
            continue
        counted = np.bincount(photons.astype(int), minlength=400)[:400]
        expected = scipy.stats.poisson(rate).pmf(np.arange(400)) * photons.size
        usual = expected > 5
        statistic = ((counted - expected)[usual] ** 2 / expected[usual]).sum()
        assert scipy.stats.chi2(usual.sum() - 1).sf(statistic) > 1e-4


def test_grey_noise_of_both_kinds_is_equal_in_all_channels_and_as_strong_as_asked_for() -> None:
    image = torch.full((1, 3, 128, 128), 100 / 255)
    for one in (
        RoundParameters(None, 1.0, 12.0, 5, None, grey_noise=True),
        RoundParameters(None, 1.0, 0.0, 5, None, poisson_scale=0.5, grey_noise=True),
    ):
        noise = add_noise(image, one) - image
        assert torch.allclose(noise[:, :1], noise, atol=1e-6)
        expected = 12 / 255 if one.noise_sigma else 0.5 * math.sqrt(100 / 255 / 256)
        assert noise.std().item() == pytest.approx(expected, rel=0.03)
        assert torch.equal(add_noise(image, one) - image, noise)  # replayed
    coloured = add_noise(image, RoundParameters(None, 1.0, 0.0, 5, None, poisson_scale=0.5)) - image
    assert not torch.allclose(coloured[:, :1], coloured, atol=1e-3)


# --- WebP


@pytest.mark.parametrize("quality", [5, 60, 95])
def test_webp_equals_what_opencv_writes_and_reads(quality: int) -> None:
    image = smooth(70)
    pixels = (as_array(image)[..., ::-1] * 255).round().astype(np.uint8)
    _, content = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])
    expected = cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1] / 255
    error = as_array(compress_webp(image, quality)) - expected
    assert -10 * np.log10(np.mean(error**2) + 1e-12) > 48  # two builds of libwebp
    assert np.abs(as_array(image) - expected).mean() > 2 * np.abs(error).mean()


# --- masks


def test_strokes_are_all_pixels_within_half_a_width_of_a_segment() -> None:
    points = ((10.0, 12.5), (40.2, 20.0), (33.3, 55.1), (33.3, 55.1))
    mask = draw_mask(MaskShapes((Stroke(9.0, points),), (), 1.0), 64, CPU).numpy()
    steps = np.linspace(0, 1, 5000)[:, None]
    segments = [np.array(a) + steps * (np.array(b) - a) for a, b in pairwise(points)]
    line = np.concatenate(segments)
    rows, columns = np.mgrid[:64, :64]
    distance, _ = cKDTree(line).query(np.stack([columns, rows], axis=-1).reshape(-1, 2))
    distance = distance.reshape(64, 64)
    clear = np.abs(distance - 4.5) > 0.01
    assert np.array_equal(mask[clear], (distance <= 4.5)[clear]) and clear.mean() > 0.99


def test_boxes_are_their_pixels_and_shapes_stay_within_the_image() -> None:
    mask = draw_mask(MaskShapes((), ((3, 5, 10, 6), (0, 0, 1, 64)), 1.0), 64, CPU)
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[5:6, 3:10] = expected[:, 0] = True
    assert torch.equal(mask, expected)
    for seed in range(20):
        shapes = sample_mask(MaskRanges(1.0), np.random.default_rng(seed), 64)
        assert shapes is not None and 1 <= len(shapes.strokes) <= 4 and len(shapes.boxes) <= 2
        assert all(0 <= x <= 63 and 0 <= y <= 63 for stroke in shapes.strokes for x, y in stroke.points)
        assert all(0 <= l < r <= 64 and 0 <= t < b <= 64 for l, t, r, b in shapes.boxes)  # noqa: E741
        assert all(12 / 8 <= stroke.width <= 48 / 8 for stroke in shapes.strokes)  # a length at 512
        assert 0.02 < draw_mask(shapes, 64, CPU).float().mean() < 0.8
