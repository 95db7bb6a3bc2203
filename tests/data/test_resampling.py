"""Batched resizing against OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from data.resampling import canvas_size, resize_batch


def test_resizing_to_sizes_of_their_own_equals_opencv_within_80_decibels() -> None:
    images = torch.rand(5, 3, 128, 128)
    sizes = [98, 51, 32, 16, 160]
    canvas = resize_batch(images, [128] * 5, sizes, 160)
    for image, size, result in zip(images, sizes, canvas, strict=True):
        expected = cv2.resize(image.permute(1, 2, 0).numpy(), (size, size), interpolation=cv2.INTER_LINEAR)
        error = result[:, :size, :size].permute(1, 2, 0).numpy() - expected
        assert -10 * np.log10(np.mean(error.astype(np.float64) ** 2)) > 80


def test_resizing_back_from_the_canvas_equals_opencv_within_80_decibels() -> None:
    sizes = [33, 9, 48, 1]
    canvas = torch.rand(4, 3, 48, 48)  # beyond its size an image holds numbers that must not be read
    result = resize_batch(canvas, sizes, [64] * 4, 64)
    for image, size, restored in zip(canvas, sizes, result, strict=True):
        small = np.ascontiguousarray(image[:, :size, :size].permute(1, 2, 0).numpy())
        expected = cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR)
        error = restored.permute(1, 2, 0).numpy() - expected
        assert -10 * np.log10(np.mean(error.astype(np.float64) ** 2) + 1e-20) > 80


def test_beyond_its_size_an_image_repeats_its_last_row_and_column() -> None:
    result = resize_batch(torch.rand(1, 3, 64, 64), [64], [21], 32)
    torch.testing.assert_close(result[:, :, 21:, :21], result[:, :, 20:21, :21].expand(-1, -1, 11, -1))
    torch.testing.assert_close(result[:, :, :, 21:], result[:, :, :, 20:21].expand(-1, -1, -1, 11))


def test_resizing_to_the_same_size_changes_nothing() -> None:
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(resize_batch(images, [64, 64], [64, 64], 64), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 16), (16, 16), (17, 32), (33, 48), (64, 64), (65, 96), (128, 128), (129, 192), (640, 768)],
)
def test_canvases_are_whole_jpeg_blocks_and_few(size: int, expected: int) -> None:
    assert canvas_size(size) == expected
    assert expected % 16 == 0
