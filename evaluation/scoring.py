"""Images under published conventions, and folders of results beside their targets, whatever made them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.dataset import FaceImages
from data.faces.files import FaceFiles
from data.faces.pairing import match_degraded
from evaluation.metrics.choice import Metrics
from evaluation.metrics.image_metrics import CONVENTIONS
from evaluation.metrics.perceptual import SetDistance
from evaluation.statistics import MeanInterval, mean_interval
from system.live_progress import OnProgress, ignore_progress


@dataclass(frozen=True)
class ConventionMeans:
    """PSNR and SSIM of all faces under one convention."""

    name: str
    used_by: str
    psnr: MeanInterval
    ssim: MeanInterval


class ConventionScores:
    """PSNR and SSIM of growing sets of images under each convention, after so many pixels are cut from every side."""

    def __init__(self, crop_border: int = 0) -> None:
        self.crop_border = crop_border
        self._values: list[list[tuple[float, float]]] = [[] for _ in CONVENTIONS]

    def add(self, images: Tensor, targets: Tensor) -> None:
        """Measures images uint8 [N, 3, H, W] against as many targets; ValueError where the border leaves nothing of
        them, or not the window of SSIM."""
        images, targets = (_cropped(pixels, self.crop_border) for pixels in (images, targets))
        for convention, values in zip(CONVENTIONS, self._values, strict=True):
            pairs = convention.psnr(images, targets).tolist(), convention.ssim(images, targets).tolist()
            values += zip(*pairs, strict=True)

    def means(self) -> list[ConventionMeans]:
        """Over all images, one for each convention."""
        found = []
        for convention, values in zip(CONVENTIONS, self._values, strict=True):
            psnr, ssim = zip(*values, strict=True)
            found.append(ConventionMeans(convention.name, convention.used_by, mean_interval(psnr), mean_interval(ssim)))
        return found


def add_reference(distances: Sequence[SetDistance], reference: FaceFiles, resolution: int) -> None:
    """Makes the faces of a folder, resized to [R, R] pixels, what distances of sets are measured to."""
    if not distances:
        return
    images = FaceImages(reference, resolution)
    for index in range(len(images)):
        for distance in distances:
            distance.add_targets(images[index][None])


def means_of_sets(distances: Sequence[SetDistance], targets_of: Sequence[SetDistance]) -> dict[str, MeanInterval]:
    """The distances of sets by the names of their metrics, to the targets of as many others; none has an interval."""
    pairs = zip(distances, targets_of, strict=True)
    return {n: MeanInterval(v, None, None) for distance, of in pairs for n, v in distance.values(of).items()}


@dataclass(frozen=True)
class FolderScores:
    """How the results of a folder did."""

    rows: dict[str, dict[str, float]]
    means: dict[str, MeanInterval]
    """Mean of every metric; distances of sets without interval."""
    conventions: list[ConventionMeans]
    sizes: dict[str, int]
    """How many faces were compared at each size, such as `512 x 512`."""


@dataclass(frozen=True)
class ResultPairs:
    """Results and targets of equal names."""

    results: FaceFiles
    targets: FaceFiles
    names: tuple[str, ...] = ()
    """How their names are made, as for `data.faces.pairing`."""
    resolution: int | None = None
    """Resizes both, in pixels; None compares at the targets' own sizes."""
    max_faces: int | None = None

    def __len__(self) -> int:
        """How many faces there are."""
        return min(len(self.targets), self.max_faces or len(self.targets))

    def __iter__(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, result and target, both uint8 [1, 3, H, W]; ValueError where names differ, a file cannot be read, or a
        result has another size than its target."""
        results = match_degraded(self.results, self.targets, self.names)
        for index in range(len(self)):
            pair = (self._image(results, index), self._image(self.targets, index))
            if pair[0].shape != pair[1].shape:
                sizes = [_size(image) for image in pair]
                raise ValueError(
                    f"results must have the size of their targets, {self.targets.names[index]} has {sizes[0]} and its "
                    f"target {sizes[1]}; give --resolution to compare both at one size"
                )
            yield self.targets.names[index], *pair

    def _image(self, faces: FaceFiles, index: int) -> Tensor:
        if self.resolution is not None:
            return FaceImages(faces, self.resolution)[index][None]
        return torch.from_numpy(np.array(faces.read(index))).permute(2, 0, 1)[None].contiguous()


def score_folder(
    pairs: ResultPairs,
    metrics: Metrics,
    crop_border: int = 0,
    reference: FaceFiles | None = None,
    on_progress: OnProgress = ignore_progress,
) -> FolderScores:
    """Scores results: values of every face, means, and PSNR and SSIM under each convention, after so many pixels are
    cut from every side. Distances of sets are measured to the reference in place of the targets, where it is given.
    `on_progress` is called with the number of faces done. ValueError where faces cannot be compared."""
    rows: dict[str, dict[str, float]] = {}
    sizes: dict[str, int] = {}
    conventions = ConventionScores(crop_border)
    distances = [metric.begin() for metric in metrics.per_set]
    for name, result, target in pairs:
        rows[name] = {metric.name: float(metric.measure(result, target)) for metric in metrics.per_face}
        sizes[_size(target)] = sizes.get(_size(target), 0) + 1
        conventions.add(result, target)
        for distance in distances:
            distance.add_images(result)
            if reference is None:
                distance.add_targets(target)
        on_progress(len(rows))
    if reference is not None:
        add_reference(distances, reference, result.shape[-1])
    means = {name: mean_interval([row[name] for row in rows.values()]) for name in next(iter(rows.values()))}
    return FolderScores(rows, means | means_of_sets(distances, distances), conventions.means(), sizes)


def _size(image: Tensor) -> str:
    return f"{image.shape[3]} x {image.shape[2]}"


def _cropped(image: Tensor, border: int) -> Tensor:
    if border < 0 or 2 * border >= min(image.shape[2:]):
        raise ValueError(f"crop_border must leave something of the image, got {border} pixels for {_size(image)}")
    return image[:, :, border : image.shape[2] - border, border : image.shape[3] - border]
