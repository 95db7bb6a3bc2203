import numpy as np
import pytest

from photographs.faces.alignment import FaceSquare, align
from photographs.restoration import pasting
from photographs.restoration.pasting import from_light, mask, paste, to_light

SQUARES = [
    FaceSquare(np.array([150.3, 120.7]), np.array([60.0, 15.0])),
    FaceSquare(np.array([150.0, 120.0]), np.array([12.0, -3.0])),  # fewer pixels than the face
    FaceSquare(np.array([5.0, 230.0]), np.array([50.0, 0.0])),  # partly outside
]


def noisy_photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (240, 300, 3), dtype=np.uint8)


@pytest.mark.parametrize("square", SQUARES)
def test_a_face_that_restoration_did_not_change_leaves_every_pixel_as_it_was(square: FaceSquare) -> None:
    photo = noisy_photo()
    before = photo.copy()
    paste(photo, align(photo, square, 64), square)
    assert np.array_equal(photo, before)


def test_the_mask_is_one_inside_and_zero_at_the_edge_without_a_step_or_a_kink() -> None:
    shown = mask(256).astype(float)
    assert (shown[60:-60, 60:-60] == 1).all()
    assert max(shown[0].max(), shown[:, 0].max(), shown[-1].max(), shown[:, -1].max()) == 0
    assert np.array_equal(shown, shown.T) and np.array_equal(shown, shown[::-1])
    middle = shown[128]
    assert np.abs(np.diff(middle)).max() <= 1.5 / (0.15 * 256) + 1e-6  # smoothstep is at most 1.5 times as steep
    assert np.abs(np.diff(middle, n=2)).max() <= 6 / (0.15 * 256) ** 2 + 1e-6


@pytest.mark.parametrize("square", SQUARES)
def test_a_white_face_on_a_grey_photograph_has_no_visible_edge(square: FaceSquare) -> None:
    photo = np.full((240, 300, 3), 100, dtype=np.uint8)
    paste(photo, np.full((64, 64, 3), 180, dtype=np.uint8), square)
    assert photo.max() == 180, "the middle is the restored face"
    changed = (photo != 100).any(axis=-1)
    steps = np.abs(np.diff(photo[..., 0].astype(int), axis=1))
    seam = 0.15 * square.side_pixels
    assert steps.max() <= 1.5 * 80 / seam * 1.35 + 1.5  # light is not linear in levels: up to 1.35 times as steep
    is_edge = changed[:, 1:] != changed[:, :-1]
    assert is_edge.any() and steps[is_edge].max() <= max(3, 80 * 3 * (1.2 / seam) ** 2)


@pytest.mark.parametrize("square", SQUARES)
def test_strips_leave_no_trace(square: FaceSquare, monkeypatch: pytest.MonkeyPatch) -> None:
    face = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole, in_strips = noisy_photo(), noisy_photo()
    paste(whole, face, square)
    monkeypatch.setattr(pasting, "_STRIP_PIXELS", 700)
    paste(in_strips, face, square)
    assert np.abs(whole.astype(int) - in_strips).max() <= 2 and np.mean(whole != in_strips) < 0.01


def test_half_the_strength_is_half_the_light() -> None:
    square = SQUARES[0]
    photo = np.full((240, 300, 3), 50, dtype=np.uint8)
    paste(photo, np.full((64, 64, 3), 200, dtype=np.uint8), square, strength=0.5)
    light = (to_light(np.array([[[50] * 3]], np.uint8)) + to_light(np.array([[[200] * 3]], np.uint8))) / 2
    assert photo[120, 150].tolist() == from_light(light)[0, 0].tolist() == [150] * 3


def test_levels_become_light_and_light_the_same_levels() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(from_light(to_light(levels)), levels)
    assert to_light(np.array([0, 255, 188], np.uint8)).tolist() == pytest.approx([0, 1, 0.5029], abs=1e-4)


def test_nothing_but_the_square_is_touched() -> None:
    photo = noisy_photo()
    before = photo.copy()
    square = SQUARES[0]
    paste(photo, np.zeros((64, 64, 3), dtype=np.uint8), square)
    places = np.stack(np.meshgrid(np.arange(300) + 0.5, np.arange(240) + 0.5), axis=-1)
    matrix = square.from_photo(1)
    inside = places @ matrix[:, :2].T + matrix[:, 2]
    outside = ((inside < 0) | (inside > 1)).any(axis=-1)
    assert np.array_equal(photo[outside], before[outside])
    assert (photo[118:124, 147:153] < 60).mean() > 0.5
