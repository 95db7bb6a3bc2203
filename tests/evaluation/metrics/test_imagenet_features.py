"""Perceptual and set distances by EfficientNet-Lite0 on photographs."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from data.dataset import FaceImages
from data.faces.files import FaceFiles, open_faces
from evaluation.metrics.choice import choose_metrics, lite0_metric
from evaluation.metrics.perceptual import Lite0
from evaluation.protocol import Evaluator, FacePairs


@pytest.fixture(scope="module")
def network() -> Lite0:
    return Lite0()


def test_more_damage_is_further_away_by_every_measure(network: Lite0, photographs: Path) -> None:
    faces = FaceImages(open_faces(photographs), 64)
    target = torch.stack([torch.as_tensor(faces[index]) for index in range(40)])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    series = [(target + strength * noise).clamp(0, 255).byte() for strength in (0.0, 4.0, 12.0, 30.0)]
    distances = []
    for images in series:
        both = lite0_metric(network).begin()
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
