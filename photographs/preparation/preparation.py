"""Photographs to a set of aligned faces: found, judged, cut out, divided and written down."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from data.faces.files import FaceFiles
from photographs.faces.alignment import Pixels, align
from photographs.faces.detection import DetectedFace, FaceDetector
from photographs.options import Selection, Split
from photographs.preparation.manifest import FaceLine, Manifest, PhotoLine
from photographs.preparation.selection import (
    nearest,
    parts_of,
    people_of,
    perceptual_hash,
    reject_by_pixels,
    reject_by_place,
)
from system.atomic_file import replacing

CONTACT_SHEET_NAME = "contact_sheet.png"
_SHEET_COLUMNS, _SHEET_ROWS, _SHEET_CELL_PIXELS = 16, 10, 96


class FacePreparer:
    """Makes a set of faces in a folder.

    Args:
        resolution: R of the aligned faces.
        selection: Which faces are kept.
        split: Which are held out.
        output: Folder.
        manifest: Of that folder.

    Raises:
        ValueError: If a limit means nothing.
    """

    def __init__(self, resolution: int, selection: Selection, split: Split, output: Path, manifest: Manifest) -> None:
        self._resolution, self._selection, self._split = resolution, selection, split
        self._output, self._manifest = output, manifest
        self._detector = FaceDetector()
        self._kept: list[FaceLine] = []

    def run(self, photos: FaceFiles, on_progress: Callable[[int], None] | None = None) -> list[PhotoLine]:
        """Looks at the photographs that were not looked at before, in the order of their names.

        Args:
            photos: Of any size.
            on_progress: Called with the number of photographs done.

        Returns:
            What became of each.
        """
        people = people_of(photos.names)
        before = [self._manifest.done(*photo) for photo in zip(photos.names, photos.sizes_bytes, strict=True)]
        known = {person: line.part for person, line in zip(people, before, strict=True) if line is not None}
        parts = parts_of(people, self._split.val_share, known)
        self._kept = [face for line in before if line is not None for face in line.kept()]
        lines = []
        for index, line in enumerate(before):
            if line is None:
                self._remove_faces(photos.names[index])
                line = self._look_at(photos, index, parts[people[index]])
                self._manifest.add(line)
            lines.append(line)
            if on_progress is not None:
                on_progress(index + 1)
        return lines

    def _remove_faces(self, name: str) -> None:
        """Removes what was cut out of an earlier photograph of the same name."""
        line = self._manifest.lines.get(name)
        for face in [] if line is None else line.kept():
            (self._output / face.kept_as).unlink(missing_ok=True)

    def _look_at(self, photos: FaceFiles, index: int, part: str) -> PhotoLine:
        """Writes the good faces of a photograph."""
        name, size_bytes = photos.names[index], photos.sizes_bytes[index]
        try:
            photo = np.asarray(photos.read(index))
        except ValueError as error:
            return PhotoLine(name, size_bytes, part, problem=" ".join(str(error).split()))
        faces = [
            self._judge(photo, face, f"{part}/{name}_{number}.png")
            for number, face in enumerate(self._detector.detect(photo))
        ]
        return PhotoLine(name, size_bytes, part, faces=faces)

    def _judge(self, photo: Pixels, face: DetectedFace, kept_as: str) -> FaceLine:
        """Writes a face where it is good."""
        points, side = face.points.round(2).tolist(), round(face.square.side_pixels, 1)
        height, width = photo.shape[:2]
        reason = reject_by_place(face, width, height, self._resolution, self._selection)
        if reason:
            return FaceLine(points, side, rejected=reason)
        aligned = align(photo, face.square, self._resolution)
        digits = perceptual_hash(aligned)
        reason = reject_by_pixels(aligned, self._selection) or self._reject_by_others(digits)
        if reason:
            return FaceLine(points, side, rejected=reason)
        with replacing(self._output / kept_as) as file:
            Image.fromarray(aligned).save(file, format="PNG")
        line = FaceLine(points, side, kept_as, perceptual_hash=digits)
        self._kept.append(line)
        return line

    def _reject_by_others(self, digits: str) -> str:
        """The reason why a face is too similar to one that is kept."""
        position, difference = nearest(digits, [face.perceptual_hash for face in self._kept])
        if difference >= self._selection.least_difference:
            return ""
        return f"near-duplicate: {difference} of 64 bits differ from {self._kept[position].kept_as}"


def write_contact_sheet(output: Path, kept: list[str]) -> Path | None:
    """Writes small pictures of kept faces, evenly chosen where there are more than fit.

    Args:
        output: Folder of the set.
        kept: Files below it.

    Returns:
        The picture's file; None where no face is kept.
    """
    most = _SHEET_COLUMNS * _SHEET_ROWS
    chosen = kept if len(kept) <= most else [kept[i * len(kept) // most] for i in range(most)]
    if not chosen:
        (output / CONTACT_SHEET_NAME).unlink(missing_ok=True)
        return None
    columns = min(_SHEET_COLUMNS, len(chosen))
    cell = _SHEET_CELL_PIXELS
    sheet = Image.new("RGB", (columns * cell, -(-len(chosen) // columns) * cell), "white")
    for index, name in enumerate(chosen):
        with Image.open(output / name) as face:
            small = face.resize((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(small, (index % columns * cell, index // columns * cell))
    with replacing(output / CONTACT_SHEET_NAME) as file:
        sheet.save(file, format="PNG")
    return output / CONTACT_SHEET_NAME
