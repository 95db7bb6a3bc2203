"""Photographs through a restorer: faces found, aligned, restored in batches and put back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.faces.files import FaceFiles
from data.ranges import model_to_uint8, uint8_to_model
from inference.restorers import Restorer
from photographs.faces.alignment import Pixels, align
from photographs.faces.detection import FaceDetector
from photographs.options import Choice, Pasting
from photographs.restoration.pasting import Backgrounds, paste
from photographs.restoration.record import Decision, FaceRecord, PhotoRecord, Record, decide
from photographs.restoration.stored import StoredPhoto, read_stored, written_name
from system.atomic_file import replacing, write_atomically
from system.live_progress import OnProgress, ignore_progress
from system.wording import unwrapped

MOST_WAITING_PIXELS = 48_000_000
"""Photographs wait for a full batch of faces until they have so many pixels together: this bounds the memory."""
SIDE_BY_SIDE_FOLDER = "side_by_side"


@dataclass
class _Waiting:
    """A photograph whose faces are not restored yet."""

    name: str
    size_bytes: int
    content: bytes
    photo: StoredPhoto
    decisions: list[Decision]
    aligned: list[Pixels] = field(default_factory=list)

    def record(self, written: str = "", problem: str = "", notes: tuple[str, ...] = ()) -> PhotoRecord:
        faces = [
            FaceRecord(face.points.round(2).tolist(), round(face.square.side_pixels, 1), reason)
            for face, reason, _ in self.decisions
        ]
        return PhotoRecord(self.name, self.size_bytes, written, problem, faces, list(notes))


class PhotoRestorer:
    """Restores photographs into a folder, whose record it keeps."""

    def __init__(
        self, restorer: Restorer, batch_size: int, choice: Choice, pasting: Pasting, output: Path, record: Record
    ) -> None:
        self._restorer, self._batch_size = restorer, batch_size
        self._choice, self._pasting = choice, pasting
        self._output, self._record = output, record
        self._detector = FaceDetector()
        self._backgrounds = None if pasting.background is None else Backgrounds(pasting.background)

    def run(self, photos: FaceFiles, on_progress: OnProgress = ignore_progress) -> Iterator[PhotoRecord]:
        """Restores what is not restored yet: what became of each photograph, in the order of the names. ValueError
        where one background is given for several."""
        if self._backgrounds is not None:
            self._backgrounds.check(len(photos))
        waiting: list[_Waiting | PhotoRecord] = []
        done = 0
        for index in range(len(photos)):
            waiting.append(self._look_at(photos, index))
            if not self._must_go_on(waiting) and index < len(photos) - 1:
                continue
            for record in self._finish(waiting):
                done += 1
                yield record
            waiting = []
            on_progress(done)

    def _must_go_on(self, waiting: list[_Waiting | PhotoRecord]) -> bool:
        """Whether a batch is full or the photographs that wait take enough memory."""
        photos = [photograph for photograph in waiting if isinstance(photograph, _Waiting)]
        num_faces = sum(len(photograph.aligned) for photograph in photos)
        num_pixels = sum(photograph.photo.pixels.size // 3 for photograph in photos)
        return num_faces >= self._batch_size or num_pixels >= MOST_WAITING_PIXELS

    def _look_at(self, photos: FaceFiles, index: int) -> _Waiting | PhotoRecord:
        """Reads a photograph and cuts out its faces; a record where it is done or cannot be used."""
        name, size_bytes = photos.names[index], photos.sizes_bytes[index]
        done = self._record.done(name, size_bytes)
        if done is not None:
            return done
        try:
            content = photos.content(index)
            photo = read_stored(content, photos.background)
        except ValueError as error:
            return PhotoRecord(name, size_bytes, problem=unwrapped(error))
        resolution = self._restorer.resolution
        faces = self._detector.detect(photo.pixels)
        decisions = [decide(photo.pixels, face, resolution, self._choice) for face in faces]
        waiting = _Waiting(name, size_bytes, content, photo, decisions)
        for decision in decisions:
            if not decision.reason:
                waiting.aligned.append(photo.to_srgb(align(photo.pixels, decision.face.square, resolution)))
        return waiting

    def _finish(self, waiting: list[_Waiting | PhotoRecord]) -> Iterator[PhotoRecord]:
        """Restores the faces that wait, writes their photographs."""
        aligned = [face for photograph in waiting if isinstance(photograph, _Waiting) for face in photograph.aligned]
        restored = iter(self._restore(aligned))
        for photograph in waiting:
            if isinstance(photograph, _Waiting):
                record = self._write(photograph, [next(restored) for _ in photograph.aligned])
                self._record.add(record)
                yield record
            else:
                yield photograph

    def _restore(self, aligned: list[Pixels]) -> list[Pixels | None]:
        """Faces in batches; None where the network's result is not finite."""
        restored: list[Pixels | None] = []
        for first in range(0, len(aligned), self._batch_size):
            faces = torch.from_numpy(np.stack(aligned[first : first + self._batch_size])).permute(0, 3, 1, 2)
            for face in self._restorer(uint8_to_model(faces)).cpu():
                is_finite = bool(torch.isfinite(face).all())
                restored.append(model_to_uint8(face).permute(1, 2, 0).contiguous().numpy() if is_finite else None)
        return restored

    def _write(self, photograph: _Waiting, restored: list[Pixels | None]) -> PhotoRecord:
        """Puts the faces of a photograph back and writes it; a photograph without any is copied to the byte."""
        if any(face is None for face in restored):
            return photograph.record(problem=f"{photograph.name}: a restored face is not finite; check the checkpoint")
        canvas, factor, notes = photograph.photo, 1.0, photograph.photo.notes
        if self._backgrounds is not None:
            try:
                canvas, factor = self._backgrounds.find(photograph.name, photograph.photo)
            except ValueError as error:
                return photograph.record(problem=unwrapped(error))
        elif not restored:
            write_atomically(self._output / photograph.name, photograph.content)
            return photograph.record(photograph.name)
        before = canvas.pixels.copy() if self._pasting.side_by_side else None
        squares = [decision.face.square.scaled(factor) for decision in photograph.decisions if not decision.reason]
        for square, face in zip(squares, restored, strict=True):
            assert face is not None  # looked at above
            paste(canvas.pixels, canvas.from_srgb(face), square, self._pasting.strength)
        name = written_name(photograph.name, photograph.photo)
        canvas.write(self._output / name)
        if before is not None:
            _write_side_by_side(self._output / SIDE_BY_SIDE_FOLDER / f"{photograph.name}.png", before, canvas)
        return photograph.record(name, notes=notes)


def _write_side_by_side(path: Path, before: Pixels, after: StoredPhoto) -> None:
    """Writes two states of a photograph in one PNG, which is sRGB."""
    pair = Image.fromarray(np.concatenate([after.to_srgb(before), after.to_srgb(after.pixels)], axis=1))
    with replacing(path) as temporary:
        pair.save(temporary, format="PNG")
