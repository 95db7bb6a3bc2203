"""Fréchet and kernel distance of features."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from evaluation.metrics.perceptual import SetDistance, frechet_distance, kernel_distance


def colours(images: Tensor) -> Tensor:
    """Features whose distribution is known: the mean of each channel."""
    return images.float().mean((2, 3))


def begin() -> SetDistance:
    return SetDistance(colours, {"fid": frechet_distance})


def drawn(num: int, features: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    return mean + scale * torch.randn(num, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("numbers", [(5, 7), (40, 30), (7, 40)])
def test_frechet_distance_equals_the_textbook_formula(numbers: tuple[int, int]) -> None:
    first, second = drawn(numbers[0], 12, 0), drawn(numbers[1], 12, 1, 0.3, 1.5)
    covariances = [np.cov(features.numpy(), rowvar=False) for features in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    means = (first.mean(0) - second.mean(0)).square().sum()
    expected = float(means) + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root).real
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_equals_its_double_sum_and_is_unbiased() -> None:
    first, second = drawn(6, 3, 0), drawn(5, 3, 1, 0.5)

    def kernel(x: Tensor, y: Tensor) -> float:
        return float(x @ y / 3 + 1) ** 3

    within = [
        np.mean([kernel(a, b) for i, a in enumerate(features) for j, b in enumerate(features) if i != j])
        for features in (first, second)
    ]
    between = np.mean([kernel(a, b) for a in first for b in second])
    assert kernel_distance(first, second) == pytest.approx(within[0] + within[1] - 2 * between, rel=1e-9)
    same = [kernel_distance(drawn(20, 4, seed), drawn(20, 4, 1000 + seed)) for seed in range(300)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 300**0.5 and min(same) < 0


def test_the_frechet_distance_of_shifted_features_is_the_squared_shift_whatever_the_batches() -> None:
    targets = torch.randint(0, 200, (40, 3, 8, 8), dtype=torch.uint8)
    distance = begin()
    for part in targets.split([10, 30]):
        distance.add_images(part + 7)
        distance.add_targets(part)
    assert distance.values()["fid"] == pytest.approx(3 * 7**2, rel=1e-5)


def test_targets_of_another_distance_serve_without_being_seen_again() -> None:
    targets = torch.randint(0, 200, (40, 3, 8, 8), dtype=torch.uint8)
    first, second = begin(), begin()
    for part in targets.split(16):
        first.add_images(part + 7)
        first.add_targets(part)
        second.add_images(part + 9)
    assert second.values(first)["fid"] == pytest.approx(3 * 9**2, rel=1e-5)
    assert first.values()["fid"] == pytest.approx(3 * 7**2, rel=1e-5)


def test_another_number_of_other_faces_may_be_the_reference() -> None:
    distance = begin()
    distance.add_images(torch.full((2, 3, 4, 4), 10, dtype=torch.uint8))
    distance.add_targets(torch.full((5, 3, 8, 8), 14, dtype=torch.uint8))
    assert distance.values()["fid"] == pytest.approx(3 * 4**2, rel=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_fewer_than_two_images_are_refused(number: int) -> None:
    distance = begin()
    if number:
        distance.add_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        distance.add_targets(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="fid need at least two images"):
        distance.values()
