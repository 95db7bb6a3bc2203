"""Blur kernels against closed forms, numpy, kornia and OpenCV."""

import math

import cv2
import numpy as np
import pytest
import torch
from kornia.filters import filter2d
from kornia.filters.kernels_geometry import get_motion_kernel2d
from torch import Tensor

from data.degradation.operators import blur_and_resize, gaussian_kernels, motion_kernels, resize


def gaussian(sigma_x: float, sigma_y: float, angle: float, kernel_size: int) -> Tensor:
    return gaussian_kernels(torch.tensor([sigma_x]), torch.tensor([sigma_y]), torch.tensor([angle]), kernel_size)[0]


def motion(length: float, angle: float, kernel_size: int) -> Tensor:
    return motion_kernels(torch.tensor([length]), torch.tensor([angle]), kernel_size)[0]


def second_moments(kernel: Tensor) -> tuple[float, float, float]:
    """Variance along columns, along rows, covariance."""
    axis = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
    weights = kernel.double()
    columns, rows = axis[None, :], axis[:, None]
    return (
        float((weights * columns**2).sum()),
        float((weights * rows**2).sum()),
        float((weights * rows * columns).sum()),
    )


@pytest.mark.parametrize(("sigma_x", "sigma_y", "angle"), [(2, 2, 0), (6, 1.5, 0.7), (3, 1, -1.2), (1, 4, 2)])
def test_a_gaussian_kernel_is_the_density_with_the_rotated_covariance(
    sigma_x: float, sigma_y: float, angle: float
) -> None:
    kernel = gaussian(sigma_x, sigma_y, angle, 41)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    precision = np.linalg.inv(rotation @ np.diag([sigma_x**2, sigma_y**2]) @ rotation.T)
    columns, rows = np.meshgrid(np.arange(41) - 20, np.arange(41) - 20)
    points = np.stack([columns, rows], axis=-1)
    density = np.exp(-0.5 * np.einsum("ija,ab,ijb->ij", points, precision, points))
    np.testing.assert_allclose(kernel.numpy(), density / density.sum(), atol=1e-7)


def test_a_tiny_or_zero_sigma_gives_a_single_pixel_and_no_nan() -> None:
    delta = torch.zeros(5, 5)
    delta[2, 2] = 1
    for sigma_x, sigma_y in ((0.0, 0.0), (1e-6, 1e-6), (0.0125, 0.0125)):
        assert torch.equal(gaussian(sigma_x, sigma_y, 0.4, 5), delta)


@pytest.mark.parametrize("length", [3, 5, 9])
@pytest.mark.parametrize("degrees", [0, 90])
def test_motion_along_an_axis_equals_kornia(length: int, degrees: int) -> None:
    expected = get_motion_kernel2d(length, float(degrees), 0.0)[0]
    kernel = motion(length, math.radians(degrees), length)
    torch.testing.assert_close(kernel, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("degrees", [-150, -60, 17, 45, 120])
def test_motion_has_the_variance_of_a_line_and_its_direction(degrees: float) -> None:
    length, angle = 15.0, math.radians(degrees)
    kernel = motion(length, angle, 21)
    var_columns, var_rows, covariance = second_moments(kernel)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    direction = 0.5 * math.atan2(2 * covariance, var_columns - var_rows)
    assert math.sin(direction - angle) == pytest.approx(0, abs=0.02)
    cosine, sine = math.cos(angle), math.sin(angle)
    along = cosine**2 * var_columns + 2 * cosine * sine * covariance + sine**2 * var_rows
    assert along == pytest.approx((length**2 - 1) / 12, rel=0.05)  # a row of 15 equal pixels
    assert var_columns + var_rows - along < 0.3  # one or two pixels wide


def test_a_motion_of_one_pixel_changes_nothing() -> None:
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(blur_and_resize(images, motion(1.0, 0.3, 5), 16), images)


def test_kernels_of_one_batch_do_not_depend_on_each_other() -> None:
    sigma_x, sigma_y, angle = torch.rand(3, 8).mul(5).unbind(0)
    together = gaussian_kernels(sigma_x, sigma_y, angle, 21)
    for index in range(8):
        alone = gaussian(float(sigma_x[index]), float(sigma_y[index]), float(angle[index]), 21)
        torch.testing.assert_close(together[index], alone, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(("size", "kernel_size"), [(64, 5), (128, 11), (128, 21), (256, 41)])
def test_blur_equals_opencv_within_100_decibels(size: int, kernel_size: int) -> None:
    image = torch.rand(1, 3, size, size)
    kernel = gaussian(kernel_size / 4, kernel_size / 9, 0.7, kernel_size)
    expected = cv2.filter2D(image[0].permute(1, 2, 0).numpy(), -1, kernel.numpy())
    error = blur_and_resize(image, kernel, size)[0].permute(1, 2, 0).numpy() - expected
    assert -10 * np.log10(np.mean(error.astype(np.float64) ** 2) + 1e-30) > 100


@pytest.mark.parametrize("size", [64, 40, 17, 1, 80])
def test_the_fourier_path_equals_the_direct_sum_resized_afterwards(size: int) -> None:
    image, kernel = torch.rand(1, 2, 64, 64), torch.rand(17, 17)
    kernel /= kernel.sum()
    expected = resize(filter2d(image, kernel[None]), size)
    torch.testing.assert_close(blur_and_resize(image, kernel, size), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel_size", [9, 21])
@pytest.mark.parametrize("size", [48, 19])
def test_isotropic_blur_commutes_with_flips(kernel_size: int, size: int) -> None:
    image, kernel = torch.rand(1, 3, 48, 48), gaussian(2.0, 2.0, 0.9, kernel_size)
    flipped = blur_and_resize(image.flip(-1), kernel, size).flip(-1)
    torch.testing.assert_close(flipped, blur_and_resize(image, kernel, size), atol=1e-6, rtol=0)
