"""dlib's face recognition network in PyTorch, whose weights come inside a package: a metric and a loss judge by it."""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from losses.distances import at_least_float32
from losses.dlib_landmarks import CHIP_PIXELS, SIDE_PIXELS, dlib_models, five_landmarks

EMBEDDING_WIDTH = 128
_MEANS = (122.782, 117.001, 104.298)
_LEVELS = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
"""Channels, blocks, whether the first block halves the size; as in dnn_face_recognition_ex.cpp."""
_TENSOR_VERSION = b"\x01\x02"


class DlibFace(nn.Module):
    """ResNet with 29 convolutions, frozen.

    The weights are dlib's `dlib_face_recognition_resnet_model_v1.dat` (CC0); None takes the file of the package
    face_recognition_models. ModuleNotFoundError where the package is missing, ValueError where the file holds something
    else.

    Source: dnn_face_recognition_ex.cpp of dlib.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        file = dlib_models() / "dlib_face_recognition_resnet_model_v1.dat" if weights is None else weights
        content = bytearray(file.read_bytes())  # writable, as torch.frombuffer wants it
        try:
            with torch.no_grad():
                self._build(content)
        except (IndexError, ValueError) as error:
            raise ValueError(f"{file} must be dlib's face recognition model, version 1: {error}") from error
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def _build(self, content: bytearray) -> None:
        shapes = list(_convolution_shapes())
        sizes = [size for shape in shapes for size in (prod(shape) + shape[0], 2 * shape[0])]
        *values, last = _tensors(content, [*((size, 1, 1, 1) for size in sizes), (256, EMBEDDING_WIDTH, 1, 1)])
        self.convolutions = nn.ModuleList()
        for shape, convolution, affine in zip(shapes, values[::2], values[1::2], strict=True):
            scale, shift = affine.view(2, -1)
            weight, bias = convolution[: -shape[0]].view(shape), convolution[-shape[0] :]
            layer = nn.Conv2d(shape[1], shape[0], shape[2], device="meta")
            layer.weight = nn.Parameter(weight * scale[:, None, None, None])
            layer.bias = nn.Parameter(bias * scale + shift)
            self.convolutions.append(layer)
        self.head = nn.Parameter(last.view(256, EMBEDDING_WIDTH))

    def forward(self, chips: Tensor) -> Tensor:
        """Embeds faces as dlib cuts them, [N, 3, 150, 150], RGB, [0, 255]: float32 [N, 128]."""
        features = torch.stack([(chips[:, index] - mean) / 256 for index, mean in enumerate(_MEANS)], 1)
        features = features.contiguous(memory_format=torch.channels_last)
        layers = iter(self.convolutions)
        features = functional.max_pool2d(_convolved(next(layers), features, 2).relu(), 3, 2)  # [N, 32, 35, 35]
        for _, num_blocks, is_halved in _LEVELS:
            for block in range(num_blocks):
                stride = 2 if is_halved and block == 0 else 1
                inner = _convolved(next(layers), features, stride).relu()
                shortcut = features if stride == 1 else functional.avg_pool2d(features, 2)
                features = _added(_convolved(next(layers), inner, 1), shortcut).relu()
        with torch.autocast(features.device.type, enabled=False):
            return at_least_float32(features).mean((2, 3)) @ self.head


class DlibIdentityLoss(nn.Module):
    """Squared Euclidean distance of dlib's embeddings of restored and target face, both cut at the target's landmarks
    as the metric `identity` does; frozen, always in evaluation mode.

    Cut in one place, without landmarks, it asked for something else: of the 0.050 by which the distance fell there,
    0.038 were left at the landmarks (100 faces of LFW at 64 pixels).
    """

    def __init__(self) -> None:
        """Reads network and landmarks; ModuleNotFoundError where one of the two optional packages is missing."""
        super().__init__()
        self.network = DlibFace()
        five_landmarks()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def embed(self, image: Tensor, places: Tensor) -> Tensor:
        """Embeds faces [N, 3, R, R] in [-1, 1], aligned as in FFHQ, cut at places [N, 2, 3]: float32 [N, 128]."""
        vectors: Tensor = self.network((chips(image, places) + 1) * 127.5)
        return vectors

    def forward(self, restored: Tensor, target: Tensor, places: Tensor) -> Tensor:
        """Mean over faces [N, 3, R, R] in [-1, 1], of places [N, 2, 3] (`losses.dlib_landmarks.face_place`): scalar,
        float32, at least 0; 0.36 separates people. The target receives no gradient."""
        with torch.no_grad():
            wanted = self.embed(target, places)
        return (self.embed(restored, places) - wanted).square().sum(1).mean()


def chips(image: Tensor, places: Tensor) -> Tensor:
    """Cuts faces [N, 3, R, R] as dlib does: enlarged or reduced to 256 pixels (bicubic, as Pillow does), then, at
    places [N, 2, 3] (`losses.dlib_landmarks.face_place`), turned and scaled to [N, 3, 150, 150], float32."""
    rows = _enlargement(image.shape[-1], image.device).to(image.dtype)  # [256, R]
    large = at_least_float32(rows @ image @ rows.T)
    size = [len(image), 3, CHIP_PIXELS, CHIP_PIXELS]
    grid = functional.affine_grid(places, size, align_corners=False)
    return functional.grid_sample(large, grid, mode="bilinear", align_corners=False)


@cache
def _enlargement(resolution: int, device: torch.device) -> Tensor:
    """What each of R pixels of a row counts in each of 256, computed where it is needed: a copy from the host would
    make a GPU wait in every iteration."""
    pixels = torch.eye(resolution, device=device)[None, None]
    size = (SIDE_PIXELS, resolution)
    return functional.interpolate(pixels, size, mode="bicubic", antialias=True)[0, 0]


def _convolution_shapes() -> Iterator[tuple[int, int, int, int]]:
    """Shapes of the weights of all convolutions, from the image on."""
    yield 32, 3, 7, 7
    widths = [32, *(channels for channels, _, _ in _LEVELS)]
    for (before, channels), (_, num_blocks, _) in zip(pairwise(widths), _LEVELS, strict=True):
        for block in range(num_blocks):
            yield channels, before if block == 0 else channels, 3, 3
            yield channels, channels, 3, 3


def _tensors(content: bytearray, shapes: list[tuple[int, int, int, int]]) -> Iterator[Tensor]:
    """The tensors of a serialized network, told by their headers: version, four sizes, little-endian float32."""
    place = 0
    for shape in shapes:
        header = _TENSOR_VERSION + b"".join(_packed(size) for size in shape)
        place = content.index(header, place) + len(header)
        values = torch.frombuffer(content, dtype=torch.float32, count=prod(shape), offset=place)
        place += values.nbytes
        yield values.clone()


def _packed(number: int) -> bytes:
    """A positive integer as dlib writes it: how many bytes, then these, the lowest first."""
    length = (number.bit_length() + 7) // 8
    return bytes([length]) + number.to_bytes(length, "little")


def _convolved(layer: nn.Module, features: Tensor, stride: int) -> Tensor:
    """dlib pads only what is not strided."""
    assert isinstance(layer, nn.Conv2d)
    return functional.conv2d(features, layer.weight, layer.bias, stride, 0 if stride > 1 else 1)


def _added(first: Tensor, second: Tensor) -> Tensor:
    """A sum in which the smaller tensor counts as 0 where it has no values, as dlib adds."""
    shape = [max(sizes) for sizes in zip(first.shape, second.shape, strict=True)]
    return _extended(first, shape) + _extended(second, shape)


def _extended(features: Tensor, shape: list[int]) -> Tensor:
    channels, height, width = (want - has for want, has in zip(shape[1:], features.shape[1:], strict=True))
    return functional.pad(features, (0, width, 0, height, 0, channels)) if channels or height or width else features
