"""Perceptual and set distances by EfficientNet-Lite0 on photographs."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from data.dataset import FaceImages
from data.faces.files import FaceFiles, open_faces
from evaluation.metrics.choice import choose_metrics, lite0_metric
from evaluation.metrics.image_metrics import psnr
from evaluation.metrics.perceptual import distances_by
from evaluation.pairs import FacePairs
from evaluation.protocol import Evaluator
from losses.imagenet_features import PerceptualLoss


@pytest.fixture(scope="module")
def network() -> PerceptualLoss:
    return PerceptualLoss()


@pytest.fixture(scope="module")
def hundred(photographs: Path) -> Tensor:
    """uint8 [100, 3, 64, 64]."""
    faces = FaceImages(open_faces(photographs), 64)
    return torch.stack([torch.as_tensor(faces[index]) for index in range(100)])


def each(target: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Changes images uint8 [N, 3, R, R] one by one."""
    changed = [np.array(change(Image.fromarray(image.permute(1, 2, 0).numpy()))) for image in target]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).contiguous()


def blurred(target: Tensor, radius: float) -> Tensor:
    return each(target, lambda image: image.filter(ImageFilter.GaussianBlur(radius)))


def noisy(target: Tensor, strength: float) -> Tensor:
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    return (target + strength * noise).clamp(0, 255).byte()


def compressed(target: Tensor, quality: float) -> Tensor:
    def encode(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=round(quality))
        return Image.open(file)

    return each(target, encode)


def mismatched(target: Tensor, share: float) -> Tensor:
    """So many of the faces are the first one, whosever turn it is."""
    number = round(share * len(target))
    return torch.cat([target[:1].expand(number, -1, -1, -1), target[number:]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "levels"),
    [
        (blurred, (0.5, 1.0, 2.0, 4.0)),
        (noisy, (4, 12, 30, 60)),
        (compressed, (90, 60, 30, 10)),
        (mismatched, (0.1, 0.3, 0.6, 0.9)),
    ],
)
def test_more_damage_to_a_hundred_faces_is_further_away_by_every_measure(
    network: PerceptualLoss, hundred: Tensor, damage: Callable[[Tensor, float], Tensor], levels: tuple[float, ...]
) -> None:
    both = lite0_metric(network).begin()
    both.add_targets(hundred)
    distances = []
    for level in levels:
        images, of_images = damage(hundred, level), lite0_metric(network).begin()
        of_images.add_images(images)
        distances.append((float(distances_by(network, images, hundred).mean()), *of_images.values(both).values()))
    for values in zip(*distances, strict=True):
        assert all(less < more for less, more in pairwise(values))


def with_psnr(
    target: Tensor, damage: Callable[[Tensor, float], Tensor], wanted: float, low: float, high: float
) -> Tensor:
    """The damage whose mean PSNR is the wanted one; it grows from low to high."""
    for _ in range(12):
        middle = (low + high) / 2
        is_sharper = psnr(damage(target, middle), target).mean() > wanted
        low, high = (middle, high) if is_sharper else (low, middle)
    return damage(target, low)


def shifted(target: Tensor) -> Tensor:
    """By a pixel, which nobody sees."""
    return torch.cat([target[..., :1], target[..., :-1]], dim=3)


@pytest.mark.slow
def test_a_blur_is_further_away_than_a_shift_of_the_same_psnr(network: PerceptualLoss, hundred: Tensor) -> None:
    shift = shifted(hundred)
    blurry = with_psnr(hundred, blurred, float(psnr(shift, hundred).mean()), 0.3, 8.0)
    assert float(psnr(blurry, hundred).mean()) == pytest.approx(float(psnr(shift, hundred).mean()), abs=0.1)
    is_right = distances_by(network, shift, hundred) < distances_by(network, blurry, hundred)
    assert is_right.float().mean() > 0.9
    found = []
    for images in (shift, blurry):
        both = lite0_metric(network).begin()
        both.add_images(images)
        both.add_targets(hundred)
        found.append(both.values())
    assert all(found[0][name] < found[1][name] for name in ("fd_lite0", "kid_lite0"))


def brightened(target: Tensor, levels: float) -> Tensor:
    return (target + levels).round().clamp(0, 255).byte()


def contrasted(target: Tensor, share: float) -> Tensor:
    mean = target.float().mean((1, 2, 3), keepdim=True)
    return (mean + (target - mean) * (1 + share)).round().clamp(0, 255).byte()


def in_squares(target: Tensor, pixels: float) -> Tensor:
    small = functional.interpolate(target.float(), (round(64 / pixels),) * 2, mode="area")
    return functional.interpolate(small, (64, 64), mode="nearest").round().byte()


@pytest.mark.slow
def test_at_one_psnr_what_people_hardly_see_is_nearer_than_all_that_hides_a_face(
    network: PerceptualLoss, hundred: Tensor
) -> None:
    faces = hundred[:40]
    shift = shifted(faces)
    wanted = float(psnr(shift, faces).mean())
    hardly_seen = [with_psnr(faces, brightened, wanted, 1, 80), with_psnr(faces, contrasted, wanted, 0.01, 1), shift]
    hiding = [
        with_psnr(faces, noisy, wanted, 2, 80),
        with_psnr(faces, blurred, wanted, 0.3, 8),
        with_psnr(faces, in_squares, wanted, 1, 16),
        with_psnr(faces, lambda target, loss: compressed(target, 100 - loss), wanted, 1, 99),
    ]
    for images in (*hardly_seen, *hiding):
        assert float(psnr(images, faces).mean()) == pytest.approx(wanted, abs=0.5)
    nearest, furthest = (
        [float(distances_by(network, images, faces).mean()) for images in group] for group in (hardly_seen, hiding)
    )
    assert 2 * max(nearest) < min(furthest), (nearest, furthest)


def test_an_evaluation_reports_them_with_their_definitions(drawn_faces: FaceFiles) -> None:
    metrics = choose_metrics(["perceptual", "fd_lite0"])
    evaluation = Evaluator(FacePairs(drawn_faces, 32, "small"), metrics).evaluate(lambda x: x)
    assert not evaluation.unavailable
    for table in (evaluation.degraded, evaluation.restored, evaluation.difference):
        assert list(table) == ["psnr", "perceptual", "fd_lite0", "kid_lite0"]
    assert evaluation.difference["fd_lite0"].mean == 0 and evaluation.degraded["perceptual"].mean > 0
    assert all("not" in evaluation.protocol.metrics[name] for name in ("perceptual", "fd_lite0"))
