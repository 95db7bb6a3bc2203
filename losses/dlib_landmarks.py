"""dlib's landmarks of aligned faces, and where its recognition network wants them cut."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from losses.weights import packaged_models

INSTALL_HINT = "pip install dlib-bin face_recognition_models"
CHIP_PIXELS = 150
SIDE_PIXELS = 256
"""The landmark predictor and the 150-pixel chip cut from it want more pixels than 64."""
_PADDING = 0.25
_FACE_BOX = (64, 77, 192, 205)
"""The middle half, a little low: where a face detector sees the face of an aligned image."""


class FaceLandmarks:
    """dlib's landmarks of aligned faces, found inside a fixed box of the image at 256 pixels."""

    def __init__(self, number: Literal[5, 68]) -> None:
        """Reads the predictor of so many landmarks; ModuleNotFoundError where one of the two optional packages is
        missing."""
        try:
            import dlib
        except ImportError as error:
            raise ModuleNotFoundError(f"the package dlib-bin is not installed ({error}); {INSTALL_HINT}") from error
        file = dlib_models() / f"shape_predictor_{number}_face_landmarks.dat"
        self._predictor: Any = dlib.shape_predictor(str(file))
        self._face_box: Any = dlib.rectangle(*_FACE_BOX)
        self._dlib: Any = dlib

    def points(self, pixels: bytes) -> np.ndarray:
        """float64 [number, 2], columns and rows in pixels of the image of 256 pixels."""
        return np.array([(point.x, point.y) for point in self._find(pixels).parts()], dtype=np.float64)

    def chip(self, image: bytes, place: bytes) -> np.ndarray:
        """The image cut as dlib's recognition network wants it, at the landmarks of another: uint8 [150, 150, 3]."""
        chip: np.ndarray = self._dlib.get_face_chip(_as_array(image), self._find(place), CHIP_PIXELS, _PADDING)
        return chip

    def place(self, pixels: bytes) -> Tensor:
        """Where `chip` cuts the image: [2, 3], the affine map from coordinates of the chip to those of the image, both
        from -1 to 1, as `torch.nn.functional.affine_grid` takes it."""
        details = self._dlib.get_face_chip_details(self._find(pixels), CHIP_PIXELS, _PADDING)
        area = details.rect
        scale = (area.right() - area.left()) / SIDE_PIXELS
        cosine, sine = scale * np.cos(details.angle), scale * np.sin(details.angle)
        x, y = (
            (first + last + 1) / SIDE_PIXELS - 1
            for first, last in ((area.left(), area.right()), (area.top(), area.bottom()))
        )
        return torch.tensor([[cosine, -sine, x], [sine, cosine, y]], dtype=torch.float32)

    def _find(self, pixels: bytes) -> Any:
        return self._predictor(_as_array(pixels), self._face_box)


@cache
def five_landmarks() -> FaceLandmarks:
    """Those that dlib's recognition network is cut at, read once; errors are those of `FaceLandmarks`."""
    return FaceLandmarks(5)


def face_place(face: Tensor) -> Tensor:
    """`FaceLandmarks.place` of a face uint8 [3, R, R], aligned as in FFHQ."""
    return five_landmarks().place(large_pixels(face[None])[0])


def locate_faces(faces: Tensor) -> Tensor:
    """`face_place` of each of the faces [N, 3, R, R] in [-1, 1]: [N, 2, 3] on their device, which waits for it."""
    pixels = ((faces + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    return torch.stack([face_place(face) for face in pixels]).to(faces.device, faces.dtype)


def _as_array(pixels: bytes) -> np.ndarray:
    return np.frombuffer(pixels, np.uint8).reshape(SIDE_PIXELS, SIDE_PIXELS, 3)


def large_pixels(images: Tensor) -> list[bytes]:
    """Each image of uint8 [N, 3, R, R] as RGB bytes [256, 256, 3]."""
    pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()  # [N, R, R, 3]
    size = (SIDE_PIXELS, SIDE_PIXELS)
    return [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).tobytes() for image in pixels]


def dlib_models() -> Path:
    """Folder of dlib's packaged weights, found without importing the package, which would need pkg_resources;
    ModuleNotFoundError where it is not installed."""
    return packaged_models("face_recognition_models", INSTALL_HINT)
