"""Degraded faces and their targets, by a preset or from stored images, and the protocol of their comparison."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data.dataset import FaceImages, check_same_crop
from data.degradation.presets import load_preset, preset_names
from data.degradation.sampling import sample_parameters
from data.degradation.synthesis import degrade
from data.faces.decoding import BLACK, Color
from data.faces.files import FaceFiles, Pictures, fingerprint
from data.faces.pairing import match_degraded
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.statistics import INTERVAL_DEFINITION
from system import machine

INPUT_DEFINITION = (
    "the network gets the degraded face rounded to 8 bits, as it would be stored; its output is clamped and rounded to "
    "8 bits before every metric"
)
_PACKAGES = ("torch", "torchvision", "kornia", "numpy", "pillow", "torchmetrics", "lpips", "torch-fidelity", "dlib-bin")


@dataclass(frozen=True)
class Protocol:
    """Everything that has to be equal for two evaluations to be comparable, and what was evaluated."""

    faces: str
    """Folder or zip of the targets, as it was given."""
    faces_fingerprint: str
    """SHA-256 over their names and sizes."""
    resolution: int
    """R, width and height in pixels of the images compared."""
    degradation: str
    """Name or path of the preset, or the folder of stored degraded images."""
    degradation_values: dict[str, Any] | None = None
    """What the preset says; of stored degraded images their fingerprint (names and sizes) and templates of names."""
    seed: int | None = None
    """Of the degradation; None for stored degraded images."""
    model: str = ""
    """What restored the faces."""
    model_sha256: str | None = None
    """SHA-256 of its file."""
    num_faces: int = 0
    """How many faces were evaluated: the first ones by name."""
    background: Color = BLACK
    """What transparent pictures were laid over, 8-bit sRGB."""
    images_fingerprint: str = ""
    """SHA-256 over names and 8-bit pixels of all degraded and target images; set by the evaluation."""
    input: str = INPUT_DEFINITION
    """In which range and precision images are passed on and compared."""
    metrics: dict[str, str] = field(default_factory=dict)
    """Definition of every metric; set by the evaluation."""
    interval: str = INTERVAL_DEFINITION
    versions: dict[str, str] = field(default_factory=partial(machine.versions, _PACKAGES))
    """Versions of the libraries that numbers may depend on."""


class PairBatch(NamedTuple):
    """Faces to restore and what they should become."""

    names: list[str]
    degraded: Tensor
    """uint8 [N, 3, R, R]."""
    target: Tensor
    """uint8 [N, 3, R, R]."""

    def first(self, number: int) -> "PairBatch":
        """The first pairs, or all where there are fewer."""
        return PairBatch(self.names[:number], self.degraded[:number], self.target[:number])


@dataclass(frozen=True)
class FacePairs:
    """Degraded faces and their targets, as often as they are wanted, and what a protocol says about them."""

    targets: FaceFiles
    """Clean aligned faces."""
    resolution: int
    """R in pixels."""
    degradation: str | FaceFiles = "released"
    """Preset or YAML file by which the targets are degraded, or their stored degraded images."""
    seed: int = 0
    """Of the degradation."""
    batch_size: int = 16
    """Faces at once; does not change any pair."""
    max_faces: int | None = None
    """Only the first faces by name; None takes all."""
    names: tuple[str, ...] = ()
    """How names of stored degraded images and of targets are made, as for `data.faces.pairing`."""
    kept: tuple[PairBatch, ...] = ()
    """The pairs, where they are kept in memory; empty reads and degrades them in every pass."""

    def __iter__(self) -> Iterator[PairBatch]:
        if self.kept:
            return iter(self.kept)
        return self._stored(self.degradation) if isinstance(self.degradation, FaceFiles) else self._degraded()

    def _degraded(self) -> Iterator[PairBatch]:
        """Degrades faces: the i-th face, in the order of names, gets the parameters of image index i.

        The degraded face is rounded to 8 bits after it was resized back, as a user would have stored it; the target is
        rounded as well, since a preset may turn both grey. Degradation runs on the CPU whatever the restorer's device,
        so that the pairs depend neither on it nor on the batch size.
        """
        images, ranges = FaceImages(self.targets, self.resolution), load_preset(str(self.degradation))
        for indices in self._batches():
            clean = uint8_to_model(torch.stack([images[index] for index in indices]))  # [N, 3, R, R]
            parameters = [sample_parameters(ranges, self.seed, index, self.resolution) for index in indices]
            # One layout, as the last bits of a metric depend on it: stored pairs give the same numbers.
            pair = (model_to_uint8(image).contiguous() for image in degrade(clean, parameters))
            yield PairBatch([self.targets.names[index] for index in indices], *pair)

    def _stored(self, degraded: FaceFiles) -> Iterator[PairBatch]:
        """Reads pairs of stored images of any size, resized to R pixels, in the order of the targets' names; ValueError
        where names do not belong together (`data.faces.pairing`) or show different crops."""
        of_targets = match_degraded(degraded, self.targets, self.names)
        images = FaceImages(of_targets, self.resolution), FaceImages(self.targets, self.resolution)
        for indices in self._batches():
            pair = [torch.stack([states[index] for index in indices]) for states in images]
            for index in indices:
                check_same_crop(*images, index)
            yield PairBatch([self.targets.names[index] for index in indices], *pair)

    def _batches(self) -> Iterator[range]:
        if self.batch_size < 1 or (self.max_faces is not None and self.max_faces < 1):
            raise ValueError(
                f"batch size and number of faces must be at least 1, got {self.batch_size} and {self.max_faces}"
            )
        for start in range(0, len(self), self.batch_size):
            yield range(start, min(start + self.batch_size, len(self)))

    def joined(self) -> PairBatch:
        """All pairs as one batch."""
        names, degraded, target = zip(*self, strict=True)
        return PairBatch([name for batch in names for name in batch], torch.cat(degraded), torch.cat(target))

    def __len__(self) -> int:
        """How many faces there are."""
        return min(len(self.targets), self.max_faces or len(self.targets))

    def protocol(self) -> Protocol:
        """What is known of an evaluation before it: faces and degradation."""
        faces = str(self.targets.path), fingerprint(self.targets), self.resolution
        number, background = len(self), self.targets.background
        if isinstance(self.degradation, FaceFiles):
            stored = {"stored_fingerprint": fingerprint(self.degradation), "names": list(self.names)}
            where = f"stored images in {self.degradation.path}"
            return Protocol(*faces, where, stored, num_faces=number, background=background)
        values = asdict(load_preset(self.degradation))
        return Protocol(*faces, self.degradation, values, self.seed, num_faces=number, background=background)


def open_degradation(given: str, pictures: Pictures = Pictures()) -> str | FaceFiles:
    """Reads what stands for a degradation in options and studies: a preset or YAML file, given back as it is, or a
    folder or archive of stored degraded faces. FileNotFoundError where there is neither, ValueError where it cannot be
    used."""
    path = Path(given).expanduser()
    is_stored = path.is_dir() or (path.is_file() and path.suffix.lower() not in (".yaml", ".yml"))
    if is_stored and given not in preset_names():
        return pictures.open(path)
    load_preset(given)
    return given


def reduction_warning(targets: FaceFiles, resolution: int) -> str:
    """Says that targets are made smaller, to R pixels, before they are compared; empty where none is. Looks at some
    twenty of them, evenly by name, and names the largest."""
    width, height = max((targets.read(i).size for i in range(0, len(targets), -(-len(targets) // 20))), key=max)
    if max(width, height) <= resolution:
        return ""
    return (
        f"warning: targets of {width} x {height} pixels are reduced to {resolution}; figures of papers hold at the "
        "targets' own size"
    )
