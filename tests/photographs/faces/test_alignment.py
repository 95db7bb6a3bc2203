import numpy as np
import pytest

from photographs.faces.alignment import FaceSquare, align, warp


def colours_at(places: np.ndarray) -> np.ndarray:
    """A smooth picture with known values everywhere."""
    x, y = places[..., 0], places[..., 1]
    return 128 + 60 * np.stack([np.sin(x / 60), np.cos(y / 45), np.sin((x + y) / 80)], axis=-1)


def photo_of(width: int, height: int) -> np.ndarray:
    places = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    return colours_at(places).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("side", "resolution", "degrees"), [(200, 64, 0), (200, 64, 25), (64, 64, 0), (90, 128, -40), (300, 32, 70)]
)
def test_every_pixel_of_an_aligned_face_shows_what_lies_at_its_place_in_the_photograph(
    side: float, resolution: int, degrees: float
) -> None:
    angle = np.radians(degrees)
    square = FaceSquare(np.array([310.3, 290.8]), side / 2 * np.array([np.cos(angle), np.sin(angle)]))
    face = align(photo_of(640, 560), square, resolution)
    places = np.stack(np.meshgrid(np.arange(resolution) + 0.5, np.arange(resolution) + 0.5), axis=-1)
    matrix = square.to_photo(resolution)
    expected = colours_at(places @ matrix[:, :2].T + matrix[:, 2])
    # Half a level of rounding in the photograph and in the face, and the mean over a pixel of the face.
    assert np.abs(face - expected).max() < 1.6


def test_shrinking_takes_means_and_no_samples_so_that_fine_patterns_do_not_alias() -> None:
    photo = np.zeros((512, 512, 3), dtype=np.uint8)
    photo[::2, ::2] = photo[1::2, 1::2] = 255  # a checkerboard, half black and half white
    face = align(photo, FaceSquare(np.array([256.0, 256.0]), np.array([200.0, 0.0])), 50)
    assert np.abs(face.astype(int) - 127.5).max() <= 1.5


def test_a_face_at_the_edge_is_continued_by_its_reflection_and_far_outside_by_the_median_colour() -> None:
    photo = photo_of(200, 200)
    square = FaceSquare(np.array([0.0, 100.0]), np.array([80.0, 0.0]))  # its left half lies outside
    face = align(photo, square, 160).astype(int)
    inside = photo[20:180, :80].astype(int)
    assert np.abs(face[:, 84:] - inside[:, 4:]).max() <= 1
    assert np.abs(face[:, 78] - inside[:, 1]).max() <= 4  # just outside: the reflection
    window = photo[16:184, :84]
    assert np.abs(face[:, 0] - np.median(window, axis=(0, 1))).max() <= 1
    steps = np.abs(np.diff(face, axis=1)).max()
    assert steps <= 8, "the padding has no visible edge"


def test_photographs_of_one_pixel_and_squares_outside_of_them_give_a_face_all_the_same() -> None:
    photo = np.full((1, 1, 3), 77, dtype=np.uint8)
    assert (align(photo, FaceSquare(np.array([0.5, 0.5]), np.array([40.0, 9.0])), 32) == 77).all()
    beside = FaceSquare(np.array([-90.0, -90.0]), np.array([20.0, 0.0]))
    assert align(photo_of(50, 50), beside, 32).shape == (32, 32, 3)


def test_the_identity_warp_returns_the_picture() -> None:
    photo = photo_of(40, 30)
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert np.array_equal(warp(photo, identity, (40, 30)), photo)
