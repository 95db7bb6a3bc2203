from pathlib import Path

import cv2
import numpy as np
import pytest

from photographs.faces.alignment import align, transformed
from photographs.faces.detection import FaceDetector
from tests.photographs.conftest import GroupPhoto


@pytest.mark.parametrize("enlarged", [1.0, pytest.param(3.0, marks=pytest.mark.slow)])
def test_every_face_of_a_group_is_found_where_it_is_whatever_the_size_of_the_photograph(
    group_photo: GroupPhoto, enlarged: float
) -> None:
    photo = cv2.resize(group_photo.pixels, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC)
    found = {}
    for face in FaceDetector().detect(photo):
        square = face.square
        distances = [np.hypot(*(square.centre / enlarged - place[:2])) / place[2] for place in group_photo.places]
        nearest = int(np.argmin(distances))
        assert distances[nearest] < 0.08 and nearest not in found
        found[nearest] = square
    assert sorted(found) == list(range(len(group_photo.places)))
    for index, square in found.items():
        _, _, side, degrees = group_photo.places[index]
        assert square.side_pixels / enlarged == pytest.approx(side, rel=0.15)
        assert np.degrees(np.arctan2(-square.axis[1], square.axis[0])) == pytest.approx(
            degrees, abs=10
        )  # drawn faces lean by themselves


@pytest.mark.slow
def test_a_face_that_fills_the_photograph_is_found_at_64_and_1500_pixels(group_photo: GroupPhoto) -> None:
    detector = FaceDetector()
    x, y, side, _ = group_photo.places[0]
    own = group_photo.pixels[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2]
    for size in (64, 1500):
        faces = detector.detect(np.asarray(cv2.resize(own, (size, size), interpolation=cv2.INTER_CUBIC)))
        assert len(faces) == 1
        assert faces[0].square.side_pixels / size == pytest.approx(1, abs=0.15)


def test_the_points_of_an_aligned_face_are_found_again_where_they_were_within_two_percent_of_its_width(
    group_photo: GroupPhoto,
) -> None:
    detector = FaceDetector()
    for face in detector.detect(group_photo.pixels):
        (again,) = detector.detect(align(group_photo.pixels, face.square, 128))
        expected = transformed(face.points, face.square.from_photo(128))
        assert np.hypot(*(again.points - expected).T).mean() / 128 < 0.02


def test_photographs_without_a_face_have_none() -> None:
    detector = FaceDetector()
    assert detector.detect(np.full((300, 500, 3), 128, dtype=np.uint8)) == []
    assert detector.detect(np.zeros((1, 1, 3), dtype=np.uint8)) == []
    assert detector.detect(np.zeros((3, 4000, 3), dtype=np.uint8)) == []


def test_a_missing_detector_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no face detector at"):
        FaceDetector(tmp_path / "none.onnx")
