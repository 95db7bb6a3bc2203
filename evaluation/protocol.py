"""One evaluation: under which protocol, how every face did, and what that means for all of them."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data.degradation.parameters import DegradationRanges
from data.faces.files import FaceFiles, fingerprint
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.choice import Metrics
from evaluation.metrics.fid import FrechetDistance
from evaluation.pairs import PairBatch
from evaluation.statistics import INTERVAL_DEFINITION, MeanInterval, mean_difference_interval, mean_interval
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
    """What the preset says; None for stored degraded images."""
    seed: int | None = None
    """Of the degradation; None for stored degraded images."""
    model: str = ""
    """What restored the faces."""
    model_sha256: str | None = None
    """Of its file."""
    num_faces: int = 0
    """How many faces were evaluated: the first ones by name. Set by `evaluate`."""
    images_fingerprint: str = ""
    """SHA-256 over names and 8-bit pixels of all degraded and target images. Set by `evaluate`."""
    input: str = INPUT_DEFINITION
    """In which range and precision images are passed on and compared."""
    metrics: dict[str, str] = field(default_factory=dict)
    """Definition of every metric. Set by `evaluate`."""
    interval: str = INTERVAL_DEFINITION
    """How the confidence intervals are computed."""
    versions: dict[str, str] = field(default_factory=partial(machine.versions, _PACKAGES))
    """Of the libraries that numbers may depend on."""


class FaceRow(NamedTuple):
    """How one face did."""

    name: str
    """Of the face."""
    degraded: dict[str, float]
    """Metric values of the degraded image against the target."""
    restored: dict[str, float]
    """Metric values of the restored image against the target."""


class FacePictures(NamedTuple):
    """The images of one face, each uint8 [3, R, R]."""

    row: FaceRow
    degraded: Tensor
    restored: Tensor
    target: Tensor


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`."""

    protocol: Protocol
    """Under which the numbers hold."""
    rows: list[FaceRow]
    """One for each face."""
    degraded: dict[str, MeanInterval]
    """Mean of every metric over the degraded images."""
    restored: dict[str, MeanInterval]
    """Mean of every metric over the restored images."""
    difference: dict[str, MeanInterval]
    """Restored minus degraded with the interval of the paired difference."""
    unavailable: dict[str, str]
    """Metrics that were asked for and could not be computed, with the reason."""
    worst: list[FacePictures]
    """Faces of lowest restored PSNR, the lowest first."""
    best: list[FacePictures]
    """Faces of highest restored PSNR, the highest first."""

    def summary(self) -> dict[str, Any]:
        """All but rows and pictures as what JSON can hold."""
        tables = {"degraded": self.degraded, "restored": self.restored, "difference": self.difference}
        means = {name: {metric: asdict(value) for metric, value in table.items()} for name, table in tables.items()}
        return means | {"unavailable": self.unavailable, "protocol": asdict(self.protocol)}


def faces_protocol(
    faces: FaceFiles,
    path: str,
    resolution: int,
    degradation: str,
    ranges: DegradationRanges | None = None,
    seed: int | None = None,
) -> Protocol:
    """Describes faces and their degradation; `evaluate` fills in the rest.

    Args:
        faces: The targets.
        path: Where they lie, as the user gave it.
        resolution: R in pixels.
        degradation: Name or path of the preset, or the folder of stored degraded images.
        ranges: Values of the preset; None for stored images.
        seed: Of the degradation; None for stored images.

    Returns:
        The protocol, without model.
    """
    values = None if ranges is None else asdict(ranges)
    return Protocol(path, fingerprint(faces), resolution, degradation, values, seed)


def evaluate(
    restore: Callable[[Tensor], Tensor],
    pairs: Iterable[PairBatch],
    metrics: Metrics,
    protocol: Protocol,
    num_pictures: int = 4,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Restores degraded faces and compares them with their targets.

    Args:
        restore: float32 [N, 3, R, R] in [-1, 1] to the restored images of the same shape, nominally [-1, 1].
        pairs: Degraded and target faces, from `evaluation.pairs`.
        metrics: What to measure, from `evaluation.metrics.choose_metrics`.
        protocol: Under which; number of faces, fingerprint of the images and definitions of the metrics are filled in.
        num_pictures: How many worst and best faces to keep the images of.
        on_progress: Called with the number of faces done after each batch.

    Returns:
        Values of every face, means with intervals, and the pictures.

    Raises:
        ValueError: If there are no faces, or the restored images have another shape or are not finite.
    """
    rows: list[FaceRow] = []
    worst: list[FacePictures] = []
    best: list[FacePictures] = []
    digest = hashlib.sha256()
    distances = None
    if metrics.inception is not None:
        distances = FrechetDistance(metrics.inception), FrechetDistance(metrics.inception)
    for batch in pairs:
        restored = _restore(restore, batch)
        new_rows = _measure(metrics, batch, restored)
        for distance, images in zip(distances or (), (batch.degraded, restored), strict=False):
            distance.add(images, batch.target)
        _update_digest(digest, batch)
        pictures = [
            FacePictures(*images) for images in zip(new_rows, batch.degraded, restored, batch.target, strict=True)
        ]
        worst = sorted(worst + pictures, key=_restored_psnr)[:num_pictures]
        best = sorted(best + pictures, key=_restored_psnr, reverse=True)[:num_pictures]
        rows += new_rows
        if on_progress is not None:
            on_progress(len(rows))
    complete = replace(
        protocol, num_faces=len(rows), images_fingerprint=digest.hexdigest(), metrics=metrics.definitions()
    )
    return Evaluation(complete, rows, *_means(rows, distances), dict(metrics.unavailable), worst, best)


@torch.no_grad()
def _restore(restore: Callable[[Tensor], Tensor], batch: PairBatch) -> Tensor:
    """8-bit restored images on the CPU."""
    restored = restore(uint8_to_model(batch.degraded))
    if restored.shape != batch.target.shape:
        raise ValueError(
            f"restored images must have the targets' shape {tuple(batch.target.shape)}, got {tuple(restored.shape)}; "
            "evaluate at the resolution of the model"
        )
    if not torch.isfinite(restored).all():
        raise ValueError(f"restored images must be finite, one of {batch.names[0]} … {batch.names[-1]} is not")
    return model_to_uint8(restored.cpu())


def _measure(metrics: Metrics, batch: PairBatch, restored: Tensor) -> list[FaceRow]:
    """All metrics of a batch as one row per face."""
    values: list[list[dict[str, float]]] = []
    for images in (batch.degraded, restored):
        columns = {metric.name: metric.measure(images, batch.target).tolist() for metric in metrics.per_face}
        values.append([{name: column[i] for name, column in columns.items()} for i in range(len(batch.names))])
    return [FaceRow(*row) for row in zip(batch.names, *values, strict=True)]


def _means(
    rows: list[FaceRow], distances: tuple[FrechetDistance, FrechetDistance] | None
) -> tuple[dict[str, MeanInterval], dict[str, MeanInterval], dict[str, MeanInterval]]:
    """Means of the degraded images, of the restored ones and of the difference."""
    if not rows:
        raise ValueError("an evaluation needs at least one face, got none")
    degraded: dict[str, MeanInterval] = {}
    restored: dict[str, MeanInterval] = {}
    difference: dict[str, MeanInterval] = {}
    for name in rows[0].degraded:
        before, after = [row.degraded[name] for row in rows], [row.restored[name] for row in rows]
        degraded[name], restored[name] = mean_interval(before), mean_interval(after)
        difference[name] = mean_difference_interval(after, before)
    if distances is not None:
        fid_degraded, fid_restored = (distance.value() for distance in distances)
        degraded["fid"], restored["fid"] = (
            MeanInterval(fid_degraded, None, None),
            MeanInterval(fid_restored, None, None),
        )
        difference["fid"] = MeanInterval(fid_restored - fid_degraded, None, None)
    return degraded, restored, difference


def _restored_psnr(pictures: FacePictures) -> float:
    return pictures.row.restored["psnr"]


def _update_digest(digest: "hashlib._Hash", batch: PairBatch) -> None:
    """Adds names and pixels face by face, so that the batch size does not matter."""
    for name, degraded, target in zip(*batch, strict=True):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(degraded.contiguous().numpy().tobytes() + target.contiguous().numpy().tobytes())
