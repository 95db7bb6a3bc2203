"""Which photographs a run reads: faces and their stored degraded versions, divided into training and validation."""

from dataclasses import dataclass

from data.dataset import StoredPairs
from data.faces.files import FaceFiles, hold_out, open_faces
from data.faces.pairing import match_degraded
from train.run.settings import FaceSettings


@dataclass(frozen=True)
class Photographs:
    """The sets of a run."""

    faces: FaceFiles
    """To train on."""
    validation_faces: FaceFiles
    """Held out."""
    pairs: StoredPairs | None = None
    """Stored degraded versions of the former; None where all are degraded by the preset."""
    validation_degraded: FaceFiles | None = None
    """Stored degraded versions of the latter, in their order; None where they are degraded by the preset."""
    real: FaceFiles | None = None
    """Low-quality faces without targets, for pictures."""

    def all_sets(self) -> list[FaceFiles]:
        """Every folder or archive once."""
        degraded = None if self.pairs is None else self.pairs.degraded
        sets = (self.faces, self.validation_faces, degraded, self.validation_degraded, self.real)
        return list({one.path: one for one in sets if one is not None}.values())

    def describe(self) -> str:
        """What a run trains on, in one line."""
        words = f"{len(self.faces):,} to train on, {len(self.validation_faces):,} held out"
        if self.pairs is not None:
            share = self.pairs.synthetic_share
            words += f", with degraded versions from {self.pairs.degraded.path}"
            words += f" for {1 - share:.0%} of the images" if share else ""
            words += ", held-out faces degraded by the preset" if self.validation_degraded is None else ""
        return words


def open_photographs(settings: FaceSettings) -> Photographs:
    """Lists the sets of a run and pairs them.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A set cannot be used, or a face has no degraded version.
    """
    faces, most, names = open_faces(settings.faces), settings.num_validation_faces, settings.names
    real = None if settings.real_faces is None else open_faces(settings.real_faces)
    degraded = None
    if settings.degraded is not None:
        degraded = match_degraded(open_faces(settings.degraded), faces, names, may_be_more=True)
    validation_degraded = None
    if settings.validation_faces is None:
        faces, validation_faces = hold_out(faces, most)
        if degraded is not None:
            number = len(faces)
            degraded, validation_degraded = degraded.take(slice(number)), degraded.take(slice(number, None))
    else:
        validation_faces = open_faces(settings.validation_faces).take(slice(most))
        if settings.validation_degraded is not None:
            stored = open_faces(settings.validation_degraded)
            validation_degraded = match_degraded(stored, validation_faces, names, may_be_more=True)
    pairs = None if degraded is None else StoredPairs(degraded, settings.synthetic_share or 0.0)
    return Photographs(faces, validation_faces, pairs, validation_degraded, real)
