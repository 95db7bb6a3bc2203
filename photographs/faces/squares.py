"""Where a face is: five points in a photograph, and the oriented square that FFHQ would crop around them.

Coordinates are continuous: pixel i covers [i, i + 1), x to the right, y downwards.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""[..., 2], x and y in pixels."""
POINT_NAMES = ("left_eye", "right_eye", "nose", "left_mouth_corner", "right_mouth_corner")
"""Left and right as one sees them in the photograph."""
LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = range(5)


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
    centre lies a tenth of the way from the eyes to the mouth.

    Args:
        points: [5, 2], named by `POINT_NAMES`.

    Source:
        Karras et al., A Style-Based Generator Architecture for GANs (arXiv 1812.04948), appendix C; of its
        68 points only the middles of the eyes and the corners of the mouth count, which are given here.
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
    changes nothing.

    Args:
        points: [5, 2].
    """
    eyes = (points[LEFT_EYE] + points[RIGHT_EYE]) / 2
    mouth = (points[LEFT_MOUTH] + points[RIGHT_MOUTH]) / 2
    across, down = points[RIGHT_EYE] - points[LEFT_EYE], mouth - eyes
    try:
        sideways, _ = np.linalg.solve(np.column_stack([across / 2, down]), points[NOSE] - eyes)
    except np.linalg.LinAlgError:  # all points on one line: nothing is seen of the other half
        return float("inf")
    return float(abs(sideways))
