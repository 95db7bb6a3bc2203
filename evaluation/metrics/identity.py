"""Identity distance by dlib's face recognition network, whose weights come inside a package; in PyTorch, in batches."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from evaluation.metrics.image_metrics import check_pair

CHIP_PIXELS = 150
EMBEDDING_WIDTH = 128
_MEANS = (122.782, 117.001, 104.298)
_LEVELS = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
"""Channels, blocks, whether the first block halves the size; as in dnn_face_recognition_ex.cpp."""
_TENSOR_VERSION = b"\x01\x02"


class RecognitionNetwork(nn.Module):
    """ResNet with 29 convolutions, frozen, of `dlib_face_recognition_resnet_model_v1.dat`; ValueError for
    another file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        content = file.read_bytes()
        try:
            with torch.no_grad():
                self._build(content)
        except (IndexError, ValueError) as error:
            raise ValueError(f"{file} must be dlib's face recognition model, version 1: {error}") from error
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def _build(self, content: bytes) -> None:
        shapes = list(_convolution_shapes())
        sizes = [size for shape in shapes for size in (int(np.prod(shape)) + shape[0], 2 * shape[0])]
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
        """Embeds faces as dlib cuts them, uint8 [N, 3, 150, 150], RGB: float32 [N, 128]."""
        means = torch.tensor(_MEANS, device=chips.device)[:, None, None]
        features = ((chips - means) / 256).contiguous(memory_format=torch.channels_last)
        layers = iter(self.convolutions)
        features = functional.max_pool2d(_convolved(next(layers), features, 2).relu(), 3, 2)  # [N, 32, 35, 35]
        for _, num_blocks, is_halved in _LEVELS:
            for block in range(num_blocks):
                stride = 2 if is_halved and block == 0 else 1
                inner = _convolved(next(layers), features, stride).relu()
                shortcut = features if stride == 1 else functional.avg_pool2d(features, 2)
                features = _added(_convolved(next(layers), inner, 1), shortcut).relu()
        return features.mean((2, 3)) @ self.head


def _convolution_shapes() -> Iterator[tuple[int, int, int, int]]:
    """Shapes of the weights of all convolutions, from the image on."""
    yield 32, 3, 7, 7
    widths = [32, *(channels for channels, _, _ in _LEVELS)]
    for (before, channels), (_, num_blocks, _) in zip(pairwise(widths), _LEVELS, strict=True):
        for block in range(num_blocks):
            yield channels, before if block == 0 else channels, 3, 3
            yield channels, channels, 3, 3


def _tensors(content: bytes, shapes: list[tuple[int, int, int, int]]) -> Iterator[Tensor]:
    """The tensors of a serialized network, told by their headers: version, four sizes, little-endian float32."""
    place = 0
    for shape in shapes:
        header = _TENSOR_VERSION + b"".join(_packed(size) for size in shape)
        place = content.index(header, place) + len(header)
        values = np.frombuffer(content, "<f4", int(np.prod(shape)), place)
        place += values.nbytes
        yield torch.from_numpy(values.copy())


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


IDENTITY_DEFINITION = (
    "Euclidean distance of dlib's 128-D face embeddings of image and target, both cut at the target's five landmarks"
)
LANDMARKS_DEFINITION = (
    "mean Euclidean distance of dlib's 68 landmarks of image and target, both found in one fixed box of the aligned "
    "face, in pixels of a face 512 pixels wide, per image"
)
INSTALL_HINT = "pip install dlib-bin face_recognition_models"

_MOST_KNOWN = 1024
_COMPARED_PIXELS = 512  # what papers on faces compare at
_SIDE_PIXELS = 256  # the landmark predictor and the 150-pixel chip cut from it want more pixels than 64
_FACE_BOX = (64, 77, 192, 205)  # the middle half, a little low: where a face detector sees the face of an aligned image


class FaceEmbedding:
    """dlib's recognition network, for aligned faces.

    The chip that dlib's network expects is cut at five landmarks. These are predicted inside a fixed box because the
    faces are aligned: no detector is needed, and a face too degraded to be detected still has a distance. Resizing the
    whole aligned image to 150 pixels instead does not work: different people then lie 0.55 apart, one person 0.42.

    Measured on 200 random pairs each of aligned LFW faces, mean and standard deviation: two photographs of one person
    lie 0.433 (0.075) apart at 128 pixels and 0.439 (0.076) at 64, of different people 0.819 (0.091) and 0.811 (0.093).

    Source: dlib's `dlib_face_recognition_resnet_model_v1` (CC0), as packaged by `face_recognition_models`; there a
    distance below 0.6 is taken for the same person.
    """

    def __init__(self) -> None:
        """Reads the networks; ModuleNotFoundError where one of the two optional packages is missing."""
        self._landmarks = FaceLandmarks(5)
        self._network = RecognitionNetwork(_models_folder() / "dlib_face_recognition_resnet_model_v1.dat")
        self._known: dict[tuple[bytes, bytes], np.ndarray] = {}

    def embed(self, images: Tensor, located_on: Tensor | None = None) -> np.ndarray:
        """Embeds aligned faces uint8 [N, 3, R, R]: float64 [N, 128]. The landmarks of `located_on`, or their own, say
        where to cut them."""
        pixels = large_pixels(images)
        keys = list(zip(pixels, pixels if located_on is None else large_pixels(located_on), strict=True))
        missing = list(dict.fromkeys(key for key in keys if key not in self._known))
        if len(self._known) + len(missing) > _MOST_KNOWN:
            self._known.clear()
            missing = list(dict.fromkeys(keys))
        if missing:
            chips = np.stack([self._landmarks.chip(image, place) for image, place in missing])
            with torch.no_grad():
                vectors = self._network(torch.from_numpy(chips).permute(0, 3, 1, 2)).double().numpy()
            self._known.update(zip(missing, vectors, strict=True))
        return np.stack([self._known[key] for key in keys])

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        """Euclidean distance of the embeddings of each image and its target, uint8 [N, 3, R, R], whose landmarks locate
        both: float64 [N], 0 for the same image; about 0.6 separates people."""
        check_pair(image, target)
        difference = self.embed(image, located_on=target) - self.embed(target)
        return torch.from_numpy(np.linalg.norm(difference, axis=1))


class FaceLandmarks:
    """dlib's landmarks of aligned faces, found inside a fixed box of the image at 256 pixels."""

    def __init__(self, number: Literal[5, 68]) -> None:
        """Reads the predictor of so many landmarks; ModuleNotFoundError where one of the two optional packages is
        missing."""
        try:
            import dlib
        except ImportError as error:
            raise ModuleNotFoundError(f"the package dlib-bin is not installed ({error}); {INSTALL_HINT}") from error
        file = _models_folder() / f"shape_predictor_{number}_face_landmarks.dat"
        self._predictor: Any = dlib.shape_predictor(str(file))
        self._face_box: Any = dlib.rectangle(*_FACE_BOX)
        self._get_chip: Any = dlib.get_face_chip

    def points(self, pixels: bytes) -> np.ndarray:
        """float64 [number, 2], columns and rows in pixels of the image of 256 pixels."""
        return np.array([(point.x, point.y) for point in self._find(pixels).parts()], dtype=np.float64)

    def chip(self, image: bytes, place: bytes) -> np.ndarray:
        """The image cut as dlib's recognition network wants it, at the landmarks of another: uint8 [150, 150, 3]."""
        chip: np.ndarray = self._get_chip(_as_array(image), self._find(place), CHIP_PIXELS, 0.25)
        return chip

    def _find(self, pixels: bytes) -> Any:
        return self._predictor(_as_array(pixels), self._face_box)


class LandmarkDistance:
    """How far facial landmarks move."""

    def __init__(self) -> None:
        """Reads the predictor; ModuleNotFoundError where one of the two optional packages is missing."""
        self._landmarks = FaceLandmarks(68)

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean distance of the 68 landmarks of each image uint8 [N, 3, R, R] to its target's: float64 [N], pixels of
        faces 512 pixels wide."""
        check_pair(image, target)
        points = [
            np.stack([self._landmarks.points(pixels) for pixels in large_pixels(images)]) for images in (image, target)
        ]
        scale = _COMPARED_PIXELS / _SIDE_PIXELS
        return torch.from_numpy(scale * np.linalg.norm(points[0] - points[1], axis=2).mean(1))


def _as_array(pixels: bytes) -> np.ndarray:
    return np.frombuffer(pixels, np.uint8).reshape(_SIDE_PIXELS, _SIDE_PIXELS, 3)


def _models_folder() -> Path:
    """Folder of the packaged weights, found without importing the package, which would need pkg_resources."""
    spec = find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package face_recognition_models is not installed; {INSTALL_HINT}")
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def large_pixels(images: Tensor) -> list[bytes]:
    """Each image of uint8 [N, 3, R, R] as RGB bytes [256, 256, 3]."""
    pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()  # [N, R, R, 3]
    size = (_SIDE_PIXELS, _SIDE_PIXELS)
    return [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).tobytes() for image in pixels]
