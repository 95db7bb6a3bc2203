import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from evaluation.metrics.image_metrics import psnr, ssim


def _noisy_pair(num_images: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 256, (num_images, 3, height, width), generator=generator)
    noise = torch.randint(-60, 61, target.shape, generator=generator)
    return (target + noise).clamp(0, 255).to(torch.uint8), target.to(torch.uint8)


def psnr_torchmetrics(image: Tensor, target: Tensor) -> Tensor:
    """As torchmetrics computes it from the same 8-bit images, infinity bounded alike; float64 [N], dB."""
    values = peak_signal_noise_ratio(image.double(), target.double(), data_range=255.0, reduction="none", dim=(1, 2, 3))
    highest = 10 * torch.log10(torch.tensor(255.0**2 * image[0].numel(), dtype=torch.float64))
    return values.minimum(highest.to(values))


def ssim_torchmetrics(image: Tensor, target: Tensor) -> Tensor:
    """As torchmetrics defines it: with a mirrored border, so that every pixel counts; float64 [N]."""
    values = structural_similarity_index_measure(
        image.double(), target.double(), sigma=1.5, kernel_size=11, data_range=255.0, k1=0.01, k2=0.03, reduction="none"
    )
    assert isinstance(values, Tensor)
    return values.reshape(-1)


def _slow_ssim(image: np.ndarray, target: np.ndarray) -> float:
    """SSIM of one image [3, H, W] by the definition: a loop over windows, moments about the weighted mean."""
    weights = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)])
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    channels = []
    for x, y in zip(image.astype(np.float64), target.astype(np.float64), strict=True):
        values = []
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
                luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
                values.append(luminance * (2 * covariance + c2) / (variance_a + variance_b + c2))
        channels.append(np.mean(values))
    return float(np.mean(channels))


def test_psnr_of_a_constant_difference_is_the_closed_form() -> None:
    target = torch.full((3, 3, 16, 16), 100, dtype=torch.uint8)
    image = target.clone()
    for index, difference in enumerate((1, 10, 100)):
        image[index] += difference
    expected = [20 * math.log10(255 / difference) for difference in (1, 10, 100)]
    assert psnr(image, target).tolist() == pytest.approx(expected, abs=1e-12)


def test_psnr_takes_one_mean_over_all_channels() -> None:
    target = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image = target.clone()
    image[:, 0] = 30  # the mean of the channels' own PSNR would be infinite
    assert psnr(image, target).item() == pytest.approx(10 * math.log10(255**2 / 300), abs=1e-12)


def test_identical_images_count_as_one_sample_off_by_one() -> None:
    target = torch.randint(0, 255, (2, 3, 12, 12), dtype=torch.uint8)
    image = target.clone()
    image[1, 2, 5, 5] += 1
    same, one_off = psnr(image, target).tolist()
    assert same == one_off == pytest.approx(10 * math.log10(255**2 * 3 * 12 * 12), abs=1e-12)
    assert psnr_torchmetrics(image, target).tolist() == pytest.approx([same, one_off], abs=1e-4)


def test_ssim_equals_a_loop_over_windows() -> None:
    image, target = _noisy_pair(2, 14, 17)
    expected = [_slow_ssim(a.numpy(), b.numpy()) for a, b in zip(image, target, strict=True)]
    assert ssim(image, target).tolist() == pytest.approx(expected, abs=1e-11)


def test_ssim_of_constant_images_is_their_luminance_term() -> None:
    image = torch.full((1, 3, 20, 20), 40, dtype=torch.uint8)
    target = torch.full((1, 3, 20, 20), 90, dtype=torch.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(image, target).item() == pytest.approx((2 * 40 * 90 + c1) / (40**2 + 90**2 + c1), abs=1e-9)


def test_ssim_of_identical_images_is_one_and_it_is_symmetric() -> None:
    image, target = _noisy_pair(2, 24, 24, seed=1)
    assert ssim(target, target).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert ssim(image, target).tolist() == pytest.approx(ssim(target, image).tolist(), abs=1e-12)


def test_torchmetrics_agrees_on_psnr_and_on_the_valid_region_of_ssim() -> None:
    image, target = _noisy_pair(3, 40, 36, seed=2)
    assert psnr_torchmetrics(image, target).tolist() == pytest.approx(psnr(image, target).tolist(), abs=1e-4)
    full = structural_similarity_index_measure(
        image.double(), target.double(), data_range=255.0, reduction="none", return_full_image=True
    )[1]
    assert full[..., 5:-5, 5:-5].mean((1, 2, 3)).tolist() == pytest.approx(ssim(image, target).tolist(), abs=1e-9)
    assert full.mean((1, 2, 3)).tolist() == pytest.approx(ssim_torchmetrics(image, target).tolist(), abs=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_that_cannot_be_compared_are_refused_with_what_must_hold(metric) -> None:  # type: ignore[no-untyped-def]
    image = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="one shape"):
        metric(image, image[..., :12])
    with pytest.raises(ValueError, match="uint8"):
        metric(image.float(), image)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    image = torch.zeros(1, 3, 10, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(image, image)
