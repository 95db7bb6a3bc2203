import numpy as np
import pytest

from photographs.faces.alignment import FaceSquare, outside_share, square_of, transformed, turn

FRONT = np.array([[40.0, 50.0], [60.0, 50.0], [50.0, 62.0], [42.0, 74.0], [58.0, 74.0]])


def rotated(points: np.ndarray, degrees: float, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


def test_the_square_is_the_one_of_the_paper_worked_out_by_hand() -> None:
    square = square_of(FRONT)
    # Eyes 20 apart, their middle (50, 50), the mouth 24 below: half a side is max(2 * 20, 1.8 * 24) = 43.2.
    assert np.allclose(square.centre, [50, 52.4])
    assert np.allclose(square.corners(), [[6.8, 9.2], [93.2, 9.2], [93.2, 95.6], [6.8, 95.6]])
    wide = FRONT.copy()
    wide[:2, 0] = [38, 62]  # 24 apart: now the eyes decide
    assert square_of(wide).side_pixels == pytest.approx(96)


def test_the_square_turns_grows_and_moves_with_the_face() -> None:
    corners = square_of(FRONT).corners()
    for degrees, scale in ((10, 1.0), (-75, 3.0), (180, 0.4)):
        moved = square_of(rotated(FRONT, degrees, scale, (7, -3)))
        assert np.allclose(moved.corners(), rotated(corners, degrees, scale, (7, -3)))


def test_the_matrices_take_the_corners_of_the_aligned_face_to_the_corners_in_the_photograph_and_back() -> None:
    square = square_of(rotated(FRONT, 33, 2.5, (100, 20)))
    aligned = np.array([[0.0, 0.0], [64, 0], [64, 64], [0, 64]])
    assert np.allclose(transformed(aligned, square.to_photo(64)), square.corners())
    assert np.allclose(transformed(square.corners(), square.from_photo(64)), aligned)


def test_the_share_outside_of_the_photograph_is_an_area() -> None:
    square = FaceSquare(np.array([0.0, 50.0]), np.array([10.0, 0.0]))
    assert outside_share(square, 100, 100) == pytest.approx(0.5)
    diamond = FaceSquare(np.array([50.0, 0.0]), np.array([10.0, 10.0]))
    assert outside_share(diamond, 100, 100) == pytest.approx(0.5)
    assert outside_share(square_of(FRONT), 100, 100) == pytest.approx(0, abs=1e-6)
    assert outside_share(FaceSquare(np.array([-50.0, 50.0]), np.array([10.0, 0.0])), 100, 100) == 1


def test_a_face_from_the_front_is_not_turned_and_one_whose_nose_lies_at_an_eye_is() -> None:
    assert turn(FRONT) == pytest.approx(0)
    profile = FRONT.copy()
    profile[2, 0] = 60  # below the right eye
    assert turn(profile) == pytest.approx(1)
    assert turn(rotated(profile, 40, 3)) == pytest.approx(1)  # leaning the head is not turning it
    assert turn(np.zeros((5, 2))) == float("inf")
