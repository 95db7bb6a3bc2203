"""Which metrics an evaluation computes, how each is defined, and which cannot be had here and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from evaluation.metrics import image_metrics
from evaluation.metrics.fid import FID_DEFINITION, load_inception
from evaluation.metrics.identity import IDENTITY_DEFINITION, FaceEmbedding
from evaluation.metrics.perceptual import LPIPS_DEFINITION, LpipsDistance

MetricName = Literal["psnr", "ssim", "lpips", "fid", "identity"]
ALL_METRICS: tuple[MetricName, ...] = get_args(MetricName)


@dataclass(frozen=True)
class MetricForm:
    """How a metric is written."""

    name: str
    """As people know it."""
    unit: str
    """Empty for a number without unit."""
    higher_is_better: bool
    """Direction of improvement."""
    digits: int = 4
    """After the point, in tables of one evaluation."""
    fine_digits: int = 4
    """After the point, where small differences are compared."""

    @property
    def heading(self) -> str:
        """Name, unit and better direction, for the head of a column."""
        return f"{self.name}{f' {self.unit}' if self.unit else ''} {'↑' if self.higher_is_better else '↓'}"


METRIC_FORMS: dict[MetricName, MetricForm] = {
    "psnr": MetricForm("PSNR", "dB", True, digits=2, fine_digits=3),
    "ssim": MetricForm("SSIM", "", True),
    "lpips": MetricForm("LPIPS", "", False),
    "fid": MetricForm("FID", "", False, digits=2, fine_digits=2),
    "identity": MetricForm("identity", "", False),
}
"""Of every metric, in the order of the columns."""


@dataclass(frozen=True)
class FaceMetric:
    """A number for each pair of image and target."""

    name: str
    """Column of tables and key of JSON."""
    definition: str
    """What a protocol says about it."""
    measure: Callable[[Tensor, Tensor], Tensor]
    """Images and targets, uint8 [N, 3, R, R], to [N]."""


@dataclass(frozen=True)
class Metrics:
    """The metrics of an evaluation."""

    per_face: tuple[FaceMetric, ...]
    """Metrics with a value for each face, PSNR among them."""
    inception: nn.Module | None = None
    """Network for FID; None leaves FID out."""
    unavailable: dict[str, str] = field(default_factory=dict)
    """Metrics that were asked for and cannot be computed here, with the reason."""

    def definitions(self) -> dict[str, str]:
        """Definition of every computed metric by its name."""
        per_face = {metric.name: metric.definition for metric in self.per_face}
        return per_face | ({"fid": FID_DEFINITION} if self.inception is not None else {})


def choose_metrics(
    names: Sequence[MetricName] = ("psnr", "ssim"),
    device: torch.device | str = "cpu",
    lpips_weights: Path | None = None,
    inception_weights: Path | None = None,
) -> Metrics:
    """Loads what the metrics need; one that lacks a package or weights is listed as unavailable with its reason.

    Args:
        names: Metrics to compute. PSNR is always among them, for it ranks the faces.
        device: Where the networks of LPIPS and FID run.
        lpips_weights: As in `evaluation.perceptual.LpipsDistance`.
        inception_weights: As in `evaluation.fid.load_inception`.

    Returns:
        The metrics in the order of `ALL_METRICS`.

    Raises:
        FileNotFoundError: If a path to weights was given and is wrong.
        ValueError: If a name is unknown or a file of weights holds something else.
    """
    for weights in (lpips_weights, inception_weights):
        if weights is not None and not weights.is_file():
            raise FileNotFoundError(f"weights must be an existing file, got {weights}; check the path")
    unknown = sorted(set(names) - set(ALL_METRICS))
    if unknown:
        raise ValueError(f"metrics must be among {', '.join(ALL_METRICS)}, got {', '.join(unknown)}")
    per_face = [FaceMetric("psnr", image_metrics.PSNR_DEFINITION, image_metrics.psnr)]
    if "ssim" in names:
        per_face.append(FaceMetric("ssim", image_metrics.SSIM_DEFINITION, image_metrics.ssim))
    unavailable: dict[str, str] = {}
    inception = None
    if "lpips" in names:
        try:
            lpips = LpipsDistance(lpips_weights, device)
            per_face.append(FaceMetric("lpips", LPIPS_DEFINITION, lpips.distance))
        except (ImportError, OSError) as error:
            unavailable["lpips"] = _one_line(error)
    if "fid" in names:
        try:
            inception = load_inception(inception_weights).to(torch.device(device))
        except (ImportError, OSError) as error:
            unavailable["fid"] = _one_line(error)
    if "identity" in names:
        try:
            identity = FaceEmbedding()
            per_face.append(FaceMetric("identity", IDENTITY_DEFINITION, identity.distance))
        except (ImportError, OSError) as error:
            unavailable["identity"] = _one_line(error)
    return Metrics(tuple(per_face), inception, unavailable)


def _one_line(error: Exception) -> str:
    """Message of an error without its line breaks."""
    return " ".join(str(error).split())
