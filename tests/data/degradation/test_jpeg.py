"""The batched JPEG against libjpeg."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from data.degradation.operators import compress_jpeg, round_to_8_bits


@pytest.fixture
def pixels() -> npt.NDArray[np.uint8]:
    """A smooth coloured picture with some noise, [96, 96, 3]."""
    random = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(random.random((96, 96, 3)).astype(np.float32), (0, 0), 6)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.clip(255 * smooth + 4 * random.standard_normal(smooth.shape), 0, 255).round().astype(np.uint8)


def to_tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def decibels(one: Tensor, other: Tensor) -> float:
    return float(-10 * torch.log10((one.double() - other.double()).square().mean()))


def libjpeg(pixels: npt.NDArray[np.uint8], quality: int) -> Tensor:
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return to_tensor(decoded[..., ::-1])


@pytest.mark.parametrize(
    ("quality", "expected"), [(10, 35), (20, 38), (30, 40), (60, 42), (75, 43), (90, 45), (98, 45)]
)
def test_compression_equals_libjpeg_within_the_documented_decibels(
    pixels: npt.NDArray[np.uint8], quality: int, expected: float
) -> None:
    reference = libjpeg(pixels, quality)
    assert decibels(compress_jpeg(to_tensor(pixels), [quality]), reference) > expected
    assert decibels(to_tensor(pixels), reference) < expected  # doing nothing would not pass


def test_lower_quality_loses_more(pixels: npt.NDArray[np.uint8]) -> None:
    image, qualities = to_tensor(pixels), [5, 20, 50, 80, 95]
    compressed = compress_jpeg(image.expand(5, -1, -1, -1), qualities)
    losses = [decibels(one[None], image) for one in compressed]
    assert losses == sorted(losses)
    assert losses[-1] - losses[0] > 8


def test_each_image_of_a_batch_is_compressed_as_if_alone() -> None:
    images, qualities = round_to_8_bits(torch.rand(7, 3, 48, 48)), [1, 20, 45, 60, 77, 95, 100]
    together = compress_jpeg(images, qualities)
    for index, quality in enumerate(qualities):
        assert torch.equal(compress_jpeg(images[index : index + 1], [quality])[0], together[index])


def test_results_are_8_bit_pixels() -> None:
    result = compress_jpeg(round_to_8_bits(torch.rand(2, 3, 32, 32)), [30, 1]) * 255
    torch.testing.assert_close(result, result.round(), atol=1e-4, rtol=0)
    assert result.min() >= 0
    assert result.max() <= 255
