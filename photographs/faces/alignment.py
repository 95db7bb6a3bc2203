"""Aligned faces cut out of photographs as FFHQ cuts them: the square of five points, supersampled, padded."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""[..., 2], x and y in pixels."""
LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = range(5)
"""Order of a face's points: eyes, nose, corners of the mouth; left and right as one sees them in the photograph."""


class FaceSquare(NamedTuple):
    """The oriented square of an aligned face."""

    centre: Points
    """[2]."""
    axis: Points
    """[2], from the centre to the middle of the right side; its length is half a side."""

    @property
    def side_pixels(self) -> float:
        """Length of a side: how many pixels the photograph has for the face's width."""
        return float(2 * np.hypot(*self.axis))

    @property
    def down(self) -> Points:
        """[2], from the centre to the middle of the lower side."""
        return np.array([-self.axis[1], self.axis[0]])

    def corners(self) -> Points:
        """[4, 2], from the top left one on clockwise."""
        across, down = self.axis, self.down
        return self.centre + np.stack([-across - down, across - down, across + down, down - across])

    def enlarged(self, factor: float) -> "FaceSquare":
        """The square of another size around the same centre."""
        return FaceSquare(self.centre, self.axis * factor)

    def scaled(self, factor: float) -> "FaceSquare":
        """Where the square lies in the photograph enlarged by a factor."""
        return FaceSquare(self.centre * factor, self.axis * factor)

    def to_photo(self, resolution: int) -> Points:
        """[2, 3], the matrix that takes (x, y, 1) of the aligned face [0, R]² into the photograph."""
        across, down = self.axis * 2 / resolution, self.down * 2 / resolution
        return np.column_stack([across, down, self.centre - self.axis - self.down])

    def from_photo(self, resolution: int) -> Points:
        """[2, 3], the inverse of `to_photo`."""
        matrix = self.to_photo(resolution)
        inverse = np.linalg.inv(matrix[:, :2])
        return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def square_of(points: Points) -> FaceSquare:
    """The square that FFHQ crops: its width follows the line of the eyes and the line from the mouth to them.

    Half a side is twice the distance of the eyes or 1.8 times the distance from eyes to mouth, whichever is more; the
    centre lies a tenth of the way from the eyes to the mouth. Points are [5, 2], from `LEFT_EYE` to
    `RIGHT_MOUTH`.

    Source: Karras et al., A Style-Based Generator Architecture for GANs (arXiv 1812.04948), appendix C; of its 68
    points only the middles of the eyes and the corners of the mouth count, which are given here.
    """
    eyes = (points[LEFT_EYE] + points[RIGHT_EYE]) / 2
    between_eyes = points[RIGHT_EYE] - points[LEFT_EYE]
    to_mouth = (points[LEFT_MOUTH] + points[RIGHT_MOUTH]) / 2 - eyes
    direction = between_eyes + np.array([to_mouth[1], -to_mouth[0]])  # across the face, whether it is long or wide
    length = np.hypot(*direction)
    half = max(2.0 * np.hypot(*between_eyes), 1.8 * np.hypot(*to_mouth))
    axis = direction * half / length if length > 0 else np.array([half, 0.0])
    return FaceSquare(eyes + 0.1 * to_mouth, axis)


def transformed(points: Points, matrix: Points) -> Points:
    """Takes points [..., 2] through a matrix [2, 3]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def outside_share(square: FaceSquare, width: int, height: int) -> float:
    """Which share of a square lies outside of a photograph of such a size, [0, 1]."""
    photo = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    inside, _ = cv2.intersectConvexConvex(square.corners().astype(np.float32), photo)
    return float(np.clip(1 - inside / square.side_pixels**2, 0, 1))


def turn(points: Points) -> float:
    """How far a face is turned to a side: 0 from the front, about 1 in profile.

    The distance of the nose from the middle of the face, measured along the line of the eyes in halves of the distance
    between them. The middle of the face is taken where the nose is, between eyes and mouth, so that leaning the head
    changes nothing. Points are [5, 2].
    """
    eyes = (points[LEFT_EYE] + points[RIGHT_EYE]) / 2
    mouth = (points[LEFT_MOUTH] + points[RIGHT_MOUTH]) / 2
    across, down = points[RIGHT_EYE] - points[LEFT_EYE], mouth - eyes
    try:
        sideways, _ = np.linalg.solve(np.column_stack([across / 2, down]), points[NOSE] - eyes)
    except np.linalg.LinAlgError:  # all points on one line: nothing is seen of the other half
        return float("inf")
    return float(abs(sideways))


Pixels = npt.NDArray[np.uint8]
"""[H, W, 3], RGB."""

MOST_SUPERSAMPLED_PIXELS = 4096
"""Largest side at which a face is rendered before it is shrunk; larger ones are shrunk in the photograph first."""
_PADDING_SHARE = 0.1
"""Of the side: from a third of it outside on all is blurred; it fades from here to twice as far outside."""
_BLUR_SHARE = 0.02
"""Of the side: standard deviation of the blur."""


def align(photo: Pixels, square: FaceSquare, resolution: int) -> Pixels:
    """Cuts the square of a face out of a photograph, uint8 [H, W, 3]: uint8 [R, R, 3].

    What lies outside of the photograph is its reflection, blurred more and more, and far outside its median colour.
    """
    shrink = max(1, int(square.side_pixels // MOST_SUPERSAMPLED_PIXELS))
    window, square = _window(photo, square, shrink)
    factor = max(1, min(round(square.side_pixels / resolution), MOST_SUPERSAMPLED_PIXELS // resolution))
    side = resolution * factor
    face = warp(window, square.to_photo(side), (side, side))
    if factor > 1:
        face = cv2.resize(face, (resolution, resolution), interpolation=cv2.INTER_AREA)  # mean over factor x factor
    return np.asarray(face, dtype=np.uint8)


_INNER_SHARE = 0.2
"""Of the side, cut off at each of them before a face is measured: hair and background do not count."""


def inner(aligned: Pixels) -> Pixels:
    """The middle of an aligned face, [R, R, 3]."""
    cut = round(_INNER_SHARE * len(aligned))
    return aligned[cut : len(aligned) - cut, cut : len(aligned) - cut]


def warp(source: npt.NDArray, to_source: npt.NDArray, size: tuple[int, int]) -> npt.NDArray:
    """Resamples a picture, [H, W] or [H, W, C], uint8 or float32, with cubic interpolation; outside of it, it goes on
    with the colour of its edge. `to_source`, [2, 3], takes continuous coordinates of the result to those of the source.
    """
    matrix = np.array(to_source, dtype=np.float64)
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV's coordinates are 0 at the middle of a pixel
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _window(photo: Pixels, square: FaceSquare, shrink: int) -> tuple[Pixels, FaceSquare]:
    """The part of the photograph around a square, padded where there is none, and the square in it."""
    height, width = photo.shape[:2]
    margin = 4 * shrink  # what interpolation looks at beside the square
    corners = square.corners()
    low = np.floor(corners.min(axis=0)).astype(int) - margin
    high = np.ceil(corners.max(axis=0)).astype(int) + margin
    left, top = np.clip(low, 0, [width - 1, height - 1])
    right, bottom = np.clip(high, [left + 1, top + 1], [width, height])
    window = np.ascontiguousarray(photo[top:bottom, left:right])
    padding = np.array([[top - low[1], high[1] - bottom], [left - low[0], high[0] - right]]).clip(0)
    if padding.max() > margin:
        window = _padded(window, padding, square.side_pixels)
        left, top = left - padding[1, 0], top - padding[0, 0]
    square = FaceSquare(square.centre - [left, top], square.axis)
    if shrink > 1:
        size = (max(1, window.shape[1] // shrink), max(1, window.shape[0] // shrink))
        whole = window[: size[1] * shrink, : size[0] * shrink]
        window = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        square = square.scaled(1 / shrink)
    return window, square


def _padded(window: Pixels, padding: npt.NDArray, side_pixels: float) -> Pixels:
    """Reflects a window over its edges; the reflection is blurred, then fades into the median colour."""
    padded = np.pad(window, (*padding, (0, 0)), mode="reflect" if min(window.shape[:2]) > 1 else "edge")
    rows, columns = (_distances(n, pair) for n, pair in zip(window.shape[:2], padding, strict=True))
    depth = np.maximum.outer(rows, columns) / max(_PADDING_SHARE * side_pixels, 3)  # [H, W], 0 at the edge
    blurred = cv2.GaussianBlur(padded, (0, 0), max(_BLUR_SHARE * side_pixels, 0.5))
    median = np.median(window, axis=(0, 1))
    mixed = padded.astype(np.float32)
    mixed += (blurred - mixed) * (3 * depth).clip(0, 1)[..., None].astype(np.float32)
    mixed += (median.astype(np.float32) - mixed) * (depth - 1).clip(0, 1)[..., None].astype(np.float32)
    return np.asarray(mixed.round().clip(0, 255), dtype=np.uint8)


def _distances(length: int, padding: npt.NDArray) -> npt.NDArray:
    """How far each place of a padded line lies outside of the line."""
    place = np.arange(-padding[0], length + padding[1])
    return np.maximum(-place, place - (length - 1)).clip(0)
