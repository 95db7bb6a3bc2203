"""Aligned faces cut out of photographs, as FFHQ cuts them: supersampled, with reflected and blurred padding."""

import cv2
import numpy as np
import numpy.typing as npt

from photographs.faces.squares import FaceSquare

Pixels = npt.NDArray[np.uint8]
"""[H, W, 3], RGB."""

MOST_SUPERSAMPLED_PIXELS = 4096
"""Largest side at which a face is rendered before it is shrunk; larger ones are shrunk in the photograph first."""
_PADDING_SHARE = 0.1
"""Of the side: from a third of it outside on all is blurred; it fades from here to twice as far outside."""
_BLUR_SHARE = 0.02
"""Of the side: standard deviation of the blur."""


def align(photo: Pixels, square: FaceSquare, resolution: int) -> Pixels:
    """Cuts out a face.

    What lies outside of the photograph is its reflection, blurred more and more, and far outside its median colour.

    Args:
        photo: uint8 [H, W, 3].
        square: Of the face.
        resolution: R, width and height of the result.

    Returns:
        uint8 [R, R, 3].
    """
    shrink = max(1, int(square.side_pixels // MOST_SUPERSAMPLED_PIXELS))
    window, square = _window(photo, square, shrink)
    factor = max(1, min(round(square.side_pixels / resolution), MOST_SUPERSAMPLED_PIXELS // resolution))
    side = resolution * factor
    face = warp(window, square.to_photo(side), (side, side))
    if factor > 1:
        face = cv2.resize(face, (resolution, resolution), interpolation=cv2.INTER_AREA)  # mean over factor x factor
    return np.asarray(face, dtype=np.uint8)


def warp(source: npt.NDArray, to_source: npt.NDArray, size: tuple[int, int]) -> npt.NDArray:
    """Resamples a picture with cubic interpolation; outside of it, it goes on with the colour of its edge.

    Args:
        source: [H, W] or [H, W, C], uint8 or float32.
        to_source: [2, 3], takes continuous coordinates of the result to those of the source.
        size: Width and height of the result.

    Returns:
        Of the source's type.
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
