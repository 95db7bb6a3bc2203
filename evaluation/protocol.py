"""One evaluation: under which protocol, how every face did, and what that means for all of them."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data.faces.files import FaceFiles
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.choice import Metrics
from evaluation.metrics.perceptual import SetDistance
from evaluation.pairs import FacePairs, PairBatch, Protocol
from evaluation.scoring import ConventionMeans, ConventionScores, add_reference, means_of_sets
from evaluation.statistics import MeanInterval, mean_difference_interval, mean_interval
from system.live_progress import OnProgress, ignore_progress
from system.wording import counted


class FaceRow(NamedTuple):
    """How one face did: metric values of its degraded and its restored image against the target."""

    name: str
    degraded: dict[str, float]
    restored: dict[str, float]


class FacePictures(NamedTuple):
    """The images of one face, each uint8 [3, R, R]."""

    row: FaceRow
    degraded: Tensor
    restored: Tensor
    target: Tensor | None
    """None for a real face, which has no figures either."""


@dataclass(frozen=True)
class Evaluation:
    """The result of `Evaluator.evaluate`: means of every metric over the degraded and the restored images."""

    protocol: Protocol
    rows: list[FaceRow]
    degraded: dict[str, MeanInterval]
    restored: dict[str, MeanInterval]
    difference: dict[str, MeanInterval]
    """Restored minus degraded with the interval of the paired difference."""
    unavailable: dict[str, str]
    """Metrics that were asked for and could not be computed, with the reason."""
    worst: list[FacePictures]
    """Faces of lowest restored PSNR, the lowest first."""
    best: list[FacePictures]
    """Faces of highest restored PSNR, the highest first."""
    first: list[FacePictures]
    """The first faces by name: the same at every evaluation."""
    conventions: list[ConventionMeans] = field(default_factory=list)
    """The restored images under each convention, where that was asked for."""

    def summary(self) -> dict[str, Any]:
        """All but rows and pictures as what JSON can hold."""
        tables = {"degraded": self.degraded, "restored": self.restored, "difference": self.difference}
        means = {name: {metric: asdict(value) for metric, value in table.items()} for name, table in tables.items()}
        conventions = {"conventions": [asdict(c) for c in self.conventions]} if self.conventions else {}
        return means | conventions | {"unavailable": self.unavailable, "protocol": asdict(self.protocol)}


class Evaluator:
    """Compares restorers on the same pairs; what concerns the pairs alone is measured in the first pass only."""

    def __init__(
        self, pairs: FacePairs, metrics: Metrics, crop_border: int | None = None, reference: FaceFiles | None = None
    ) -> None:
        """Takes pixels to cut from every side before PSNR and SSIM under each convention (None computes none) and faces
        that distances of sets are measured to in place of the targets."""
        self.pairs, self.metrics = pairs, metrics
        self._crop_border, self._reference = crop_border, reference
        self._degraded: list[list[dict[str, float]]] = []  # values of every face of the batches seen so far
        self._degraded_means: dict[str, MeanInterval] = {}
        self._digest = hashlib.sha256()
        self._distances = [metric.begin() for metric in metrics.per_set]

    def evaluate(
        self,
        restore: Callable[[Tensor], Tensor],
        num_extremes: int = 4,
        num_first: int = 0,
        on_progress: OnProgress = ignore_progress,
    ) -> Evaluation:
        """Restores degraded faces, float32 [N, 3, R, R] in [-1, 1], to nominally the same, and compares them with their
        targets; so many of the worst and best faces, and of the first ones by name, keep their images. `on_progress` is
        called with the number of faces done after each batch. ValueError where there are no faces, or the restored
        images have another shape or are not finite."""
        rows: list[FaceRow] = []
        worst: list[FacePictures] = []
        best: list[FacePictures] = []
        first: list[FacePictures] = []
        distances = [metric.begin() for metric in self.metrics.per_set]
        conventions = None if self._crop_border is None else ConventionScores(self._crop_border)
        if self._reference is not None and not self._degraded:
            add_reference(self._distances, self._reference, self.pairs.resolution)
        for index, batch in enumerate(self.pairs):
            if index == len(self._degraded):
                self._measure_pairs(batch)
            restored = _restore(restore, batch)
            values = self._measure(restored, batch.target)
            rows += [FaceRow(*row) for row in zip(batch.names, self._degraded[index], values, strict=True)]
            for distance in distances:
                distance.add_images(restored)
            if conventions is not None:
                conventions.add(restored, batch.target)
            new = rows[-len(batch.names) :]
            faces = [FacePictures(*face) for face in zip(new, batch.degraded, restored, batch.target, strict=True)]
            worst = sorted(worst + faces, key=_restored_psnr)[:num_extremes]
            best = sorted(best + faces, key=_restored_psnr, reverse=True)[:num_extremes]
            first = (first + faces)[:num_first]
            on_progress(len(rows))
        means, unavailable = self._means(rows, distances), dict(self.metrics.unavailable)
        under = [] if conventions is None else conventions.means()
        return Evaluation(self._protocol(), rows, *means, unavailable, worst, best, first, under)

    def _protocol(self) -> Protocol:
        definitions = self.metrics.definitions()
        if self._reference is not None:
            to = f"; to the {counted(len(self._reference), 'face')} of {self._reference.path} in place of the targets"
            definitions |= {n: text + to for m in self.metrics.per_set for n, text in m.definitions.items()}
        return replace(self.pairs.protocol(), images_fingerprint=self._digest.hexdigest(), metrics=definitions)

    def _measure_pairs(self, batch: PairBatch) -> None:
        """All that does not depend on a restorer; names and pixels are hashed face by face, whatever the batch size."""
        self._degraded.append(self._measure(batch.degraded, batch.target))
        for name, degraded, target in zip(*batch, strict=True):
            self._digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
            self._digest.update(degraded.contiguous().numpy().tobytes() + target.contiguous().numpy().tobytes())
        for distance in self._distances:
            distance.add_images(batch.degraded)
            if self._reference is None:
                distance.add_targets(batch.target)

    def _measure(self, images: Tensor, targets: Tensor) -> list[dict[str, float]]:
        columns = {metric.name: metric.measure(images, targets).tolist() for metric in self.metrics.per_face}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(images))]

    def _means(
        self, rows: list[FaceRow], distances: list[SetDistance]
    ) -> tuple[dict[str, MeanInterval], dict[str, MeanInterval], dict[str, MeanInterval]]:
        if not rows:
            raise ValueError("an evaluation needs at least one face, got none")
        before = {name: [row.degraded[name] for row in rows] for name in rows[0].degraded}
        after = {name: [row.restored[name] for row in rows] for name in before}
        if not self._degraded_means:
            self._degraded_means = {name: mean_interval(values) for name, values in before.items()}
            self._degraded_means |= means_of_sets(self._distances, self._distances)
        restored = {name: mean_interval(values) for name, values in after.items()}
        difference = {name: mean_difference_interval(after[name], before[name]) for name in before}
        for name, value in means_of_sets(distances, self._distances).items():
            restored[name] = value
            difference[name] = MeanInterval(value.mean - self._degraded_means[name].mean, None, None)
        return dict(self._degraded_means), restored, difference


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


def _restored_psnr(pictures: FacePictures) -> float:
    return pictures.row.restored["psnr"]
