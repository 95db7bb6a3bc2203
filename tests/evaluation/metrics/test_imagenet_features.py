"""Perceptual distance, Fréchet and kernel distance by EfficientNet-Lite0."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from data.dataset import FaceImages
from data.faces.files import FaceFiles, open_faces
from evaluation.metrics.choice import choose_metrics
from evaluation.metrics.imagenet_features import Lite0, Lite0Distance, frechet_distance, kernel_distance
from evaluation.protocol import Evaluator, FacePairs


@pytest.fixture(scope="module")
def network() -> Lite0:
    return Lite0()


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


def test_more_damage_is_further_away_by_every_measure(network: Lite0, photographs: Path) -> None:
    faces = FaceImages(open_faces(photographs), 64)
    target = torch.stack([torch.as_tensor(faces[index]) for index in range(40)])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    series = [(target + strength * noise).clamp(0, 255).byte() for strength in (0.0, 4.0, 12.0, 30.0)]
    distances = []
    for images in series:
        both = Lite0Distance(network)
        both.add(images, target)
        distances.append((float(network.distance(images, target).mean()), *both.values().values()))
    for values in zip(*distances, strict=True):
        assert values[0] == pytest.approx(0, abs=1e-6) or values[0] < 0  # unbiased: below 0 for equal sets
        assert all(less < more for less, more in pairwise(values))


def test_an_evaluation_reports_them_with_their_definitions(drawn_faces: FaceFiles) -> None:
    metrics = choose_metrics(["perceptual", "fd_lite0"])
    evaluation = Evaluator(FacePairs(drawn_faces, 32, "small"), metrics).evaluate(lambda x: x)
    assert not evaluation.unavailable
    for table in (evaluation.degraded, evaluation.restored, evaluation.difference):
        assert list(table) == ["psnr", "perceptual", "fd_lite0", "kid_lite0"]
    assert evaluation.difference["fd_lite0"].mean == 0 and evaluation.degraded["perceptual"].mean > 0
    assert all("not" in evaluation.protocol.metrics[name] for name in ("perceptual", "fd_lite0"))


def test_one_image_is_too_few_for_a_set_distance(network: Lite0) -> None:
    distance = Lite0Distance(network)
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    distance.add(image, image)
    with pytest.raises(ValueError, match="at least two images"):
        distance.values()
