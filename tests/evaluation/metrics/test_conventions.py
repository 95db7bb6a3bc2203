import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from evaluation.metrics.image_metrics import (
    CONVENTIONS,
    luma,
    psnr_of_luma,
    ssim_of_luma,
    ssim_of_skimage,
    ssim_of_torchmetrics,
)


def pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (2, 3, height, width), generator=generator)
    noise = torch.randint(-60, 61, target.shape, generator=generator)
    return (target + noise).clamp(0, 255).byte(), target.byte()


def test_luma_of_black_white_and_the_primaries_is_the_standards() -> None:
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    expected = [16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966]
    assert luma(colours[:, :, None, None]).flatten().tolist() == pytest.approx(expected, abs=1e-9)


def test_psnr_of_luma_sees_a_green_difference_as_half_and_a_blue_one_hardly() -> None:
    target = torch.full((2, 3, 12, 12), 100, dtype=torch.uint8)
    image = target.clone()
    image[0, 1] += 20
    image[1, 2] += 20
    expected = [20 * math.log10(255 / (20 * weight / 255)) for weight in (128.553, 24.966)]
    assert psnr_of_luma(image, target).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_of_skimage_equals_a_loop_over_flat_windows_with_unbiased_moments() -> None:
    image, target = pair(9, 10)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    for x, y, value in zip(
        image.double().numpy(), target.double().numpy(), ssim_of_skimage(image, target), strict=True
    ):
        values = []
        for channel in range(3):
            for top in range(3):
                for left in range(4):
                    place = channel, slice(top, top + 7), slice(left, left + 7)
                    a, b = x[place].ravel(), y[place].ravel()
                    moments = np.cov(a, b, ddof=1)
                    luminance = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
                    values.append(luminance * (2 * moments[0, 1] + c2) / (moments[0, 0] + moments[1, 1] + c2))
        assert value.item() == pytest.approx(np.mean(values), abs=1e-10)


def test_ssim_of_torchmetrics_equals_torchmetrics_and_that_of_luma_its_valid_region() -> None:
    image, target = pair(24, 20)
    expected = structural_similarity_index_measure(image.double(), target.double(), data_range=255.0, reduction="none")
    assert isinstance(expected, Tensor)
    assert ssim_of_torchmetrics(image, target).tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-9)
    full = structural_similarity_index_measure(
        luma(image), luma(target), data_range=255.0, reduction="none", return_full_image=True
    )[1]
    assert ssim_of_luma(image, target).tolist() == pytest.approx(
        full[..., 5:-5, 5:-5].mean((1, 2, 3)).tolist(), abs=1e-9
    )


def test_equal_images_have_an_ssim_of_1_and_the_same_finite_psnr_under_every_convention() -> None:
    _, target = pair(16, 16)
    for convention in CONVENTIONS:
        assert convention.ssim(target, target).tolist() == pytest.approx([1, 1], abs=1e-12)
        assert bool(convention.psnr(target, target).isfinite().all())
