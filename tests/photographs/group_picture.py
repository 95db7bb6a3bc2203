"""The picture of docs/photographs.md: `python -m tests.photographs.group_picture docs/pictures/photographs.jpg`."""

import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFilter

from data.faces.files import open_faces
from evaluation.reports.pictures import Picture, side_by_side
from inference.options import RestorerOptions
from photographs.faces.alignment import Pixels, align
from photographs.faces.detection import DetectedFace, FaceDetector
from photographs.options import Choice, Pasting
from photographs.restoration.record import Record
from photographs.restoration.restoration import PhotoRestorer
from system import command_line
from system.atomic_file import write_atomically
from tests.photographs.conftest import draw_group_photo

FACE_PIXELS = 124
"""Ten of these are as wide as two photographs."""
GREEN = (80, 255, 80)


def main(picture: Path, /) -> None:
    """Draws a group of people who do not exist, spoils the photograph and restores it, with the shipped models alone.

    Args:
        picture: JPEG to write.
    """
    content = io.BytesIO()
    Image.fromarray(draw()).save(content, format="JPEG", quality=85)
    write_atomically(picture, content.getvalue())


def draw() -> Picture:
    """The photograph with the squares and points of its faces, the same restored; below, its faces before and after."""
    photo = spoiled(draw_group_photo().pixels)
    faces = FaceDetector().detect(photo)
    restored = restore(photo)
    cut = [align(one, face.square, FACE_PIXELS) for one in (photo, restored) for face in faces]
    return np.concatenate([side_by_side([with_squares(photo, faces), restored]), _as_wide(side_by_side(cut), photo)])


def spoiled(photo: Pixels) -> Pixels:
    """Out of focus, with noise, stored as JPEG."""
    soft = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(1.5))).astype(float)
    noisy = soft + np.random.default_rng(0).normal(0, 5, soft.shape)
    stored = io.BytesIO()
    Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(stored, format="JPEG", quality=60)
    return np.array(Image.open(stored))


def restore(photo: Pixels) -> Pixels:
    """What `scripts.restore_photos` makes of a photograph when it restores every face."""
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "group.png", Path(name) / "restored"
        Image.fromarray(photo).save(source)
        choice = Choice(most_lost_levels=255)
        restorer = PhotoRestorer(RestorerOptions().open(), 8, choice, Pasting(), output, Record(output, {}))
        list(restorer.run(open_faces(source)))
        with Image.open(output / source.name) as image:
            return np.array(image.convert("RGB"))


def with_squares(photo: Pixels, faces: list[DetectedFace]) -> Pixels:
    """A photograph with what was found in it."""
    drawn = photo.copy()
    for face in faces:
        cv2.polylines(drawn, [face.square.corners().round().astype(np.int32)], True, GREEN, 1, cv2.LINE_AA)
        for x, y in face.points.round().astype(int).tolist():
            cv2.circle(drawn, (x, y), 2, GREEN, -1, cv2.LINE_AA)
    return drawn


def _as_wide(row: Picture, photo: Pixels) -> Picture:
    """A row of faces with white beside it, as wide as two photographs."""
    width = side_by_side([photo, photo]).shape[1]
    return np.pad(row, ((0, 4), (0, max(0, width - row.shape[1])), (0, 0)), constant_values=255)[:, :width]


if __name__ == "__main__":
    command_line.run(main)
