"""Grids and comparison rows of faces as 8-bit pictures."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from evaluation.protocol import Evaluation, FacePictures
from system.atomic_file import write_atomically
from system.wording import printable, unwrapped

Picture = npt.NDArray[np.uint8]
"""[H, W, 3], RGB."""

GRID_GAP = 4
"""White pixels between the images of a picture."""
WORST_AND_BEST = (
    "The faces with the lowest PSNR (left) and the highest (right), one a row: degraded, restored, target; below each "
    "row its PSNR and SSIM before and after, and its name"
)
"""What `worst_and_best` shows."""
_CELL_PIXELS = 128  # smaller faces are enlarged to at least this, so that they can be judged and captions fit
_TEXT_PIXELS = 12
_WHITE = 255
_BLACK = (0, 0, 0)


def picture_grid(images: Tensor, num_columns: int) -> Picture:
    """Lays images uint8 [N, 3, H, W] out in rows, at their own size, with 4 white pixels between and around them; the
    last row may be shorter. ValueError where there are no uint8 RGB images or no columns."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images) or num_columns < 1:
        raise ValueError(
            f"a grid needs uint8 images [N, 3, H, W] and at least one column, got {images.dtype} {tuple(images.shape)} "
            f"and {num_columns}"
        )
    pictures = list(images.cpu().permute(0, 2, 3, 1).numpy())  # N of [H, W, 3]
    rows = [side_by_side(pictures[first : first + num_columns]) for first in range(0, len(pictures), num_columns)]
    width = rows[0].shape[1]
    rows[-1] = np.pad(rows[-1], ((0, 0), (0, width - rows[-1].shape[1]), (0, 0)), constant_values=_WHITE)
    return np.concatenate([np.full((GRID_GAP, width, 3), _WHITE, dtype=np.uint8), *rows])


def comparison_rows(
    columns: Sequence[Tensor],
    headings: Sequence[str] = ("degraded", "restored", "target"),
    captions: Sequence[str] = (),
    cell_pixels: int = _CELL_PIXELS,
) -> Picture:
    """Shows the same faces in several states, one face a row: each column is a uint8 [N, 3, H, W] under its heading.

    Captions are written under the N rows; none leaves no room for them. Faces narrower than `cell_pixels` are enlarged
    by a whole factor, each pixel becoming a square. ValueError where columns, headings or captions do not match in
    number.
    """
    num_faces = len(columns[0]) if columns else 0
    if not num_faces or len(headings) != len(columns) or any(column.shape != columns[0].shape for column in columns):
        raise ValueError(
            f"comparison needs one heading per column and equal columns, got {len(headings)} headings and the shapes "
            f"{[tuple(column.shape) for column in columns]}"
        )
    if captions and len(captions) != num_faces:
        raise ValueError(f"comparison needs one caption per face, got {len(captions)} for {num_faces} faces")
    rows = [_labels(headings, _enlarged(columns[0][0], cell_pixels).shape[1])]
    for index in range(num_faces):
        rows.append(side_by_side([_enlarged(column[index], cell_pixels) for column in columns]))
        if captions:
            rows.append(_labels([captions[index]], rows[-1].shape[1] - 2 * GRID_GAP))
    return np.concatenate(rows)


def worst_and_best(evaluation: Evaluation) -> Picture:
    """The faces of an evaluation that came out worst (left) and best (right) by PSNR, with their numbers under them:
    two comparisons side by side, degraded | restored | target each."""
    halves = [_faces(evaluation.worst, "worst"), _faces(evaluation.best, "best")]
    return side_by_side(halves)


def png_bytes(picture: Picture) -> bytes:
    """Encodes a picture as PNG, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_png(path: Path, picture: Picture) -> Path:
    """Writes a picture atomically as PNG and returns the path."""
    return write_atomically(path, png_bytes(picture))


def _faces(faces: Sequence[FacePictures], which: str) -> Picture:
    columns = [torch.stack([getattr(face, state) for face in faces]) for state in ("degraded", "restored", "target")]
    captions = []
    for face in faces:
        values = [f"{face.row.degraded['psnr']:.2f} → {face.row.restored['psnr']:.2f} dB"]
        if "ssim" in face.row.restored:
            values.append(f"SSIM {face.row.degraded['ssim']:.3f} → {face.row.restored['ssim']:.3f}")
        captions.append("   ".join([*values, face.row.name]))
    return comparison_rows(columns, (f"degraded ({which})", "restored", "target"), captions)


def _enlarged(image: Tensor, cell_pixels: int) -> Picture:
    """uint8 [3, H, W] as a picture of at least so many pixels in width."""
    factor = -(-cell_pixels // image.shape[-1])
    picture = image.cpu().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(picture.repeat(factor, axis=0).repeat(factor, axis=1))


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Lays pictures [H, W, 3] out in a row, from the top, with a gap around each."""
    height = max(len(picture) for picture in pictures) + GRID_GAP
    width = sum(picture.shape[1] for picture in pictures) + GRID_GAP * (len(pictures) + 1)
    row = np.full((height, width, 3), _WHITE, dtype=np.uint8)
    left = GRID_GAP
    for picture in pictures:
        row[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GRID_GAP
    return row


def _labels(texts: Sequence[str], width_pixels: int) -> Picture:
    """A line of texts, one over each column of the given width; a text too long for it is cut."""
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _TEXT_PIXELS)
    lines = []
    for text in (unwrapped(printable(text)) for text in texts):
        line = Image.new("RGB", (width_pixels, _TEXT_PIXELS + 7), (_WHITE,) * 3)
        pen = ImageDraw.Draw(line)
        while len(text) > 1 and pen.textlength(text, font=font) > width_pixels:
            text = f"{text[:-2]}…"
        pen.text((0, 2), text, fill=_BLACK, font=font)
        lines.append(np.asarray(line))
    return side_by_side(lines)
