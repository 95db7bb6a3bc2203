"""Photographs to a set of aligned faces: found, judged, cut out, divided and written down."""

import io
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from data.faces.broken import deadly_problem
from data.faces.files import FaceFiles
from photographs.faces.alignment import Pixels, align
from photographs.faces.detection import DetectedFace, FaceDetector
from photographs.options import Selection, Split
from photographs.preparation.manifest import FaceLine, Manifest, PhotoLine
from photographs.preparation.selection import (
    PerceptualHashes,
    parts_of,
    people_of,
    perceptual_hash,
    reject_by_pixels,
    reject_by_place,
)
from system.child_processes import end_with
from system.live_progress import OnProgress, ignore_progress
from system.wording import unwrapped

_PNG_LEVEL = 3
"""zlib's; a face of 512 pixels takes 19 milliseconds, at Pillow's own choice of 6 it takes 51 and 8 % fewer bytes."""


class CutFace(NamedTuple):
    """A face of a photograph, judged by itself."""

    line: FaceLine
    """What is known of it so far."""
    png: bytes
    """The aligned face; empty where it is rejected."""


class CutPhoto(NamedTuple):
    """What was found in a photograph."""

    problem: str
    """Why it could not be read; empty where it could."""
    faces: list[CutFace]


class FaceCutter:
    """Finds, judges and cuts out the faces of one photograph after another, of any size, on one core; `deadly` says why
    photographs must not be opened, by their positions."""

    def __init__(
        self, photos: FaceFiles, resolution: int, selection: Selection, deadly: Mapping[int, str] | None = None
    ) -> None:
        self._photos, self._resolution, self._selection = photos, resolution, selection
        self._deadly = deadly or {}
        self._detector = FaceDetector()
        cv2.setNumThreads(1)  # other cores have processes of their own

    def cut(self, index: int) -> CutPhoto:
        """Looks at the photograph at a position."""
        if index in self._deadly:
            return CutPhoto(self._deadly[index], [])
        try:
            photo = np.asarray(self._photos.read(index))
        except ValueError as error:
            return CutPhoto(unwrapped(error), [])
        return CutPhoto("", [self._judge(photo, face) for face in self._detector.detect(photo)])

    def _judge(self, photo: Pixels, face: DetectedFace) -> CutFace:
        points, side = face.points.round(2).tolist(), round(face.square.side_pixels, 1)
        height, width = photo.shape[:2]
        reason = reject_by_place(face, width, height, self._resolution, self._selection)
        if reason:
            return CutFace(FaceLine(points, side, rejected=reason), b"")
        aligned = align(photo, face.square, self._resolution)
        reason = reject_by_pixels(aligned, self._selection)
        if reason:
            return CutFace(FaceLine(points, side, rejected=reason), b"")
        content = io.BytesIO()
        Image.fromarray(aligned).save(content, format="PNG", compress_level=_PNG_LEVEL)
        return CutFace(FaceLine(points, side, perceptual_hash=perceptual_hash(aligned)), content.getvalue())


def cut_photos(
    photos: FaceFiles, positions: Sequence[int], resolution: int, selection: Selection, num_workers: int
) -> Iterator[CutPhoto]:
    """Cuts faces of R pixels out of the photographs at some positions and gives what was found in each, in their order.

    The number of processes, at least 1, which is this one, changes nothing but the time. A photograph that ends the
    process which opens it counts as one that cannot be read; ChildProcessError where one ends and none is at fault.
    """
    num_workers = min(num_workers, len(positions))
    if num_workers <= 1:
        yield from map(FaceCutter(photos, resolution, selection).cut, positions)
        return
    deadly: dict[int, str] = {}
    done = 0
    while done < len(positions):
        try:
            for cut in _side_by_side((photos, resolution, selection, deadly), positions[done:], num_workers):
                yield cut
                done += 1
        except BrokenProcessPool as error:
            suspects = [index for index in positions[done : done + 2 * num_workers] if index not in deadly]
            found = {index: problem for index in suspects if (problem := deadly_problem(photos, index))}
            if not found:
                raise ChildProcessError(
                    f"one of {num_workers} processes that cut out faces was ended, as happens where memory runs out; "
                    "repeat the command with fewer --num_workers, it goes on where it was"
                ) from error
            deadly |= found


_CutterArguments = tuple[FaceFiles, int, Selection, Mapping[int, str]]


def _side_by_side(arguments: _CutterArguments, positions: Sequence[int], num_workers: int) -> Iterator[CutPhoto]:
    """Results of processes in order; two photographs for each process are under way, so that memory stays bounded."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, context, _begin, (os.getpid(), arguments))
    try:
        under_way: deque[Future[CutPhoto]] = deque()
        for index in positions:
            under_way.append(pool.submit(_cut, index))
            if len(under_way) == 2 * num_workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_CUTTERS: list[FaceCutter] = []
"""The one of this process, where it is one of several."""


def _begin(parent: int, arguments: _CutterArguments) -> None:
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command itself ends on Ctrl-C, and its processes with it
    _CUTTERS.append(FaceCutter(*arguments))


def _cut(index: int) -> CutPhoto:
    return _CUTTERS[0].cut(index)


class FacePreparer:
    """Makes a set of faces of R pixels in the folder of a manifest; the processes that look at photographs change
    nothing but the time."""

    def __init__(
        self, resolution: int, selection: Selection, split: Split, manifest: Manifest, num_workers: int = 1
    ) -> None:
        self._resolution, self._selection, self._split = resolution, selection, split
        self._manifest, self._num_workers = manifest, num_workers
        self._kept = PerceptualHashes()
        self.num_looked_at = 0
        """Photographs that this command looked at; it had done the others before."""

    def run(self, photos: FaceFiles, on_progress: OnProgress = ignore_progress) -> list[PhotoLine]:
        """Looks at the photographs that were not looked at before, in the order of their names, and calls `on_progress`
        with the number of those done; gives what became of each. OSError where a process was lost."""
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
