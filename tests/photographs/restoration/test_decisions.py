"""Better than the model are faces with detail that its resolution cannot hold, not those a bit larger."""

import cv2
import numpy as np
import pytest

from data.ranges import model_to_uint8
from inference.drawing import SHIPPED_PRIOR, sample
from models import load_prior
from photographs.faces.detection import DetectedFace
from photographs.options import Choice
from photographs.restoration.record import Decision, decide, lost_detail

POINTS = np.array([[24.0, 28.0], [40.0, 28.0], [32.0, 36.0], [26.0, 45.8], [38.0, 45.8]])
"""In a face of 64 pixels: its square is the whole picture, but for a fifth of a pixel."""


@pytest.fixture(scope="module")
def drawn_face() -> np.ndarray:
    """uint8 [64, 64, 3], drawn by the shipped prior."""
    drawn = model_to_uint8(sample(load_prior(SHIPPED_PRIOR), 0, range(1), "rendered faces"))
    return drawn[0].permute(1, 2, 0).contiguous().numpy()


def decided(photo: np.ndarray, resolution: int) -> Decision:
    return decide(photo, DetectedFace(POINTS * len(photo) / 64, 1.0), resolution, Choice())


def resized(photo: np.ndarray, side: int) -> np.ndarray:
    how = cv2.INTER_AREA if side < len(photo) else cv2.INTER_CUBIC
    return cv2.resize(photo, (side, side), interpolation=how)


def test_a_sharp_face_hardly_larger_than_the_model_is_restored(drawn_face: np.ndarray) -> None:
    face = DetectedFace(POINTS, 1.0)
    assert 63.5 < face.square.side_pixels < 64.5
    for resolution in (63, 60, 52):  # 1.02, 1.07 and 1.23 times
        assert decided(drawn_face, resolution).reason == ""
        assert lost_detail(drawn_face, face, resolution) == 0
    grain = np.random.default_rng(0).normal(0, 20, drawn_face.shape)
    assert decided((drawn_face + grain).clip(0, 255).astype(np.uint8), 63).reason == ""


def test_a_sharp_face_of_four_times_the_model_is_left_alone_and_a_blurred_one_restored(drawn_face: np.ndarray) -> None:
    sharp = decided(drawn_face, 16)
    assert sharp.reason.startswith("better than the model: at 16 pixels its 64 would lose")
    blurred = decided(resized(resized(drawn_face, 8), 64), 16)
    assert blurred.reason == "" and blurred.lost_levels < sharp.lost_levels / 3


def test_a_large_model_leaves_a_larger_detailed_face_alone_too() -> None:
    detailed = np.random.default_rng(0).integers(70, 190, (1540, 1540, 3), dtype=np.uint8)
    decision = decided(detailed, 1024)
    assert decision.reason and decision.lost_levels > 5
