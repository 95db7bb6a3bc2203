"""Resizing against OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from data.degradation.operators import canvas_size, fill_canvas, resize, resize_along


@pytest.mark.parametrize(("before", "after"), [(128, 98), (128, 16), (128, 160), (33, 64), (9, 64), (1, 64), (64, 1)])
def test_resizing_equals_opencv_within_80_decibels(before: int, after: int) -> None:
    image = torch.rand(1, 3, before, before)
    expected = cv2.resize(image[0].permute(1, 2, 0).numpy(), (after, after), interpolation=cv2.INTER_LINEAR)
    one_by_one = resize_along(resize_along(image, after, dim=-2), after, dim=-1)
    for resized in (resize(image, after), one_by_one):
        error = resized[0].permute(1, 2, 0).numpy() - expected
        assert -10 * np.log10(np.mean(error.astype(np.float64) ** 2) + 1e-20) > 80


def test_complex_numbers_are_resized_like_their_parts() -> None:
    x = torch.complex(torch.rand(2, 9, 5), torch.rand(2, 9, 5))
    resized = resize_along(x, 4, dim=1)
    torch.testing.assert_close(resized.real, resize_along(x.real, 4, dim=1))
    torch.testing.assert_close(resized.imag, resize_along(x.imag, 4, dim=1))


def test_a_canvas_repeats_the_last_row_and_column() -> None:
    image = torch.rand(1, 3, 21, 21)
    filled = fill_canvas(image, 32)
    assert torch.equal(filled[..., :21, :21], image)
    assert torch.equal(filled[..., 21:, :21], image[..., 20:, :].expand(-1, -1, 11, -1))
    assert torch.equal(filled[..., 21:], filled[..., 20:21].expand(-1, -1, -1, 11))


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(resize(image, 64), image)
    assert torch.equal(resize_along(image, 64, dim=-1), image)


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 16), (16, 16), (17, 32), (33, 48), (64, 64), (65, 80), (129, 144), (640, 640)]
)
def test_canvases_are_whole_jpeg_blocks(size: int, expected: int) -> None:
    assert canvas_size(size) == expected
