"""Photographs to a set of aligned faces: found, judged, cut out, divided and written down."""

from collections.abc import Callable
from dataclasses import replace

from data.faces.files import FaceFiles
from photographs.options import Selection, Split
from photographs.preparation.cutting import CutFace, CutPhoto, cut_photos
from photographs.preparation.manifest import FaceLine, Manifest, PhotoLine
from photographs.preparation.selection import PerceptualHashes, parts_of, people_of


class FacePreparer:
    """Makes a set of faces in a folder.

    Args:
        resolution: R of the aligned faces.
        selection: Which faces are kept.
        split: Which are held out.
        manifest: Of the folder.
        num_workers: Processes that look at photographs; they change nothing but the time.
    """

    def __init__(
        self, resolution: int, selection: Selection, split: Split, manifest: Manifest, num_workers: int = 1
    ) -> None:
        self._resolution, self._selection, self._split = resolution, selection, split
        self._manifest, self._num_workers = manifest, num_workers
        self._kept = PerceptualHashes()
        self.num_looked_at = 0
        """Photographs that this command looked at; it had done the others before."""

    def run(self, photos: FaceFiles, on_progress: Callable[[int], None] | None = None) -> list[PhotoLine]:
        """Looks at the photographs that were not looked at before, in the order of their names.

        Args:
            photos: Of any size.
            on_progress: Called with the number of photographs done.

        Returns:
            What became of each.

        Raises:
            OSError: A face or the manifest cannot be written, or a process was lost.
        """
        people = people_of(photos.names)
        lines = [self._manifest.done(*photo) for photo in zip(photos.names, photos.sizes_bytes, strict=True)]
        known = {person: line.part for person, line in zip(people, lines, strict=True) if line is not None}
        parts = parts_of(people, self._split.val_share, known)
        for face in (face for line in lines if line is not None for face in line.kept()):
            self._kept.add(face.perceptual_hash, face.kept_as)
        missing = [index for index, line in enumerate(lines) if line is None]
        cut = cut_photos(photos, missing, self._resolution, self._selection, self._num_workers)
        for index, found in zip(missing, cut, strict=True):
            lines[index] = self._write(photos, index, parts[people[index]], found)
            self.num_looked_at += 1
            if on_progress is not None:
                on_progress(len(lines) - len(missing) + self.num_looked_at)
        return [line for line in lines if line is not None]

    def _write(self, photos: FaceFiles, index: int, part: str, found: CutPhoto) -> PhotoLine:
        """Writes the good faces of a photograph that differ from all before, and its line."""
        name = photos.names[index]
        earlier = self._manifest.lines.get(name)
        for face in [] if earlier is None else earlier.kept():
            self._manifest.written.remove(face.kept_as)
        faces = [self._keep(face, f"{part}/{name}_{number}.png") for number, face in enumerate(found.faces)]
        line = PhotoLine(name, photos.sizes_bytes[index], part, found.problem, faces)
        self._manifest.add(line)
        return line

    def _keep(self, face: CutFace, name: str) -> FaceLine:
        """Writes a face that is good by itself, where no other is too similar."""
        if face.line.rejected:
            return face.line
        digits = face.line.perceptual_hash
        similar, difference = self._kept.nearest(digits)
        if difference < self._selection.least_difference:
            reason = f"near-duplicate: {difference} of 64 bits differ from {similar}"
            return replace(face.line, rejected=reason, perceptual_hash="")
        self._manifest.written.write(name, face.png)
        self._kept.add(digits, name)
        return replace(face.line, kept_as=name)
