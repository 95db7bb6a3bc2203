"""Which metrics an evaluation computes, how each is defined, and which cannot be had here and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluation.metrics import image_metrics, niqe, perceptual
from evaluation.metrics.forms import ALL_METRICS, PYIQA
from evaluation.metrics.identity import (
    IDENTITY_DEFINITION,
    LANDMARKS_DEFINITION,
    MOBILENET_DEFINITION,
    FaceEmbedding,
    LandmarkDistance,
    mobilenet_distance,
)
from losses.imagenet_features import PerceptualLoss
from system.paths import way_out
from system.wording import unwrapped


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
class SetMetric:
    """Numbers for all images and all targets together."""

    definitions: dict[str, str]
    """What a protocol says about each, by name."""
    begin: Callable[[], perceptual.SetDistance]
    """Two empty sets."""


@dataclass(frozen=True)
class Metrics:
    """The metrics of an evaluation."""

    per_face: tuple[FaceMetric, ...]
    """Metrics with a value for each face, PSNR among them."""
    per_set: tuple[SetMetric, ...] = ()
    """Metrics with a value for all faces together."""
    unavailable: dict[str, str] = field(default_factory=dict)
    """Metrics that were asked for and cannot be computed here, with the reason."""

    def definitions(self) -> dict[str, str]:
        """Definition of every computed metric by its name."""
        definitions = {metric.name: metric.definition for metric in self.per_face}
        for metric in self.per_set:
            definitions |= metric.definitions
        return definitions


FID = {"fid": perceptual.frechet_distance}
LITE0 = {
    "fd_lite0": perceptual.frechet_distance,
    "kid_lite0": lambda images, targets: 1000 * perceptual.kernel_distance(images, targets),
}


def choose_metrics(
    names: Sequence[str] = ("psnr", "ssim"),
    device: torch.device | str = "cpu",
    lpips_weights: Path | None = None,
    inception_weights: Path | None = None,
    niqe_model: Path | None = None,
) -> Metrics:
    """Loads what the metrics need; one that lacks a package or weights is listed as unavailable with its reason.

    Names are some of `ALL_METRICS`, in whose order the metrics are given, or `pyiqa:NAME` of that package, behind them.
    PSNR is always among them, for it ranks the faces. Files are those of `lpips_distance`, `load_inception` and
    `read_natural_model`. FileNotFoundError where one was given and is not there, ValueError where a name is unknown or
    a file holds something else.
    """
    for weights in (lpips_weights, inception_weights, niqe_model):
        if weights is not None and not weights.is_file():
            raise FileNotFoundError(f"weights must be an existing file, got {weights}{way_out(weights)}")
    bridged = [name for name in dict.fromkeys(names) if name.startswith(PYIQA)]
    unknown = sorted(set(names) - {*ALL_METRICS, *bridged})
    if unknown:
        known = f"{', '.join(ALL_METRICS)} or {PYIQA}NAME"
        raise ValueError(f"metrics must be among {known}, got {', '.join(unknown)}")
    lite0 = cache(lambda: PerceptualLoss().to(torch.device(device)))  # one network for two metrics
    load: dict[str, Callable[[], FaceMetric | SetMetric]] = {
        "psnr": lambda: FaceMetric("psnr", image_metrics.PSNR_DEFINITION, image_metrics.psnr),
        "ssim": lambda: FaceMetric("ssim", image_metrics.SSIM_DEFINITION, image_metrics.ssim),
        "perceptual": lambda: FaceMetric(
            "perceptual", perceptual.PERCEPTUAL_DEFINITION, partial(perceptual.distances_by, lite0())
        ),
        "lpips": lambda: FaceMetric(
            "lpips", perceptual.LPIPS_DEFINITION, perceptual.lpips_distance(lpips_weights, device)
        ),
        "identity": lambda: FaceMetric("identity", IDENTITY_DEFINITION, FaceEmbedding().distance),
        "identity_mobilenet": lambda: FaceMetric(
            "identity_mobilenet", MOBILENET_DEFINITION, mobilenet_distance(device)
        ),
        "landmarks": lambda: FaceMetric("landmarks", LANDMARKS_DEFINITION, LandmarkDistance().distance),
        "niqe": lambda: niqe_metric(niqe_model),
        "fd_lite0": lambda: lite0_metric(lite0()),
        "fid": lambda: fid_metric(perceptual.load_inception(inception_weights).to(torch.device(device))),
    }
    chosen: list[FaceMetric | SetMetric] = []
    unavailable: dict[str, str] = {}
    load |= {name: partial(pyiqa_metric, name, device) for name in bridged}
    for name in load:
        if name == "psnr" or name in names:
            try:
                chosen.append(load[name]())
            except (ImportError, OSError) as error:
                unavailable[name] = unwrapped(error)
    per_face = tuple(metric for metric in chosen if isinstance(metric, FaceMetric))
    return Metrics(per_face, tuple(metric for metric in chosen if isinstance(metric, SetMetric)), unavailable)


def niqe_metric(path: Path | None) -> FaceMetric:
    """NIQE by its published model; FileNotFoundError where no file is given, ValueError where it holds something
    else."""
    if path is None:
        raise FileNotFoundError(
            "give NIQE's model, modelparameters.mat of its release or BasicSR's niqe_pris_params.npz"
        )
    model = niqe.read_natural_model(path)
    definition = niqe.DEFINITION.format(sha256=model.sha256)
    return FaceMetric("niqe", definition, lambda images, _: niqe.niqe(images.cpu(), model))


def pyiqa_metric(name: str, device: torch.device | str = "cpu") -> FaceMetric:
    """A metric of the package pyiqa, such as `pyiqa:musiq`, with or without reference, where the user has installed it;
    its licence is not for commercial use, so that it is no dependency. ModuleNotFoundError where it is not installed,
    ValueError where it knows no such metric, OSError where its weights cannot be had."""
    if find_spec("pyiqa") is None:
        raise ModuleNotFoundError("the package pyiqa is not installed; its licence is yours to accept")
    pyiqa = import_module("pyiqa")
    short = name.removeprefix(PYIQA)
    if short not in pyiqa.list_models():
        raise ValueError(f"{name} must be a metric of pyiqa, which has none of that name; see pyiqa.list_models()")
    metric = pyiqa.create_metric(short, device=torch.device(device))

    @torch.no_grad()
    def measure(images: Tensor, targets: Tensor) -> Tensor:
        pair = [pixels.to(torch.device(device)).float() / 255 for pixels in (images, targets)]
        values: Tensor = metric(*pair) if metric.metric_mode == "FR" else metric(pair[0])
        return values.reshape(len(images)).double().cpu()

    better = "lower" if metric.lower_better else "higher"
    beside = "beside the target" if metric.metric_mode == "FR" else "without the target"
    return FaceMetric(name, f"{short} of pyiqa {pyiqa.__version__}, {beside}, per image; {better} is better", measure)


def fid_metric(inception: nn.Module) -> SetMetric:
    """FID by a network uint8 [N, 3, H, W] to [N, F], from `evaluation.metrics.perceptual.load_inception`."""
    weights = next(inception.parameters(), None)

    def features(images: Tensor) -> Tensor:
        found: Tensor = inception(images if weights is None else images.to(weights.device))
        return found

    return SetMetric({"fid": perceptual.FID_DEFINITION}, partial(perceptual.SetDistance, features, FID))


def lite0_metric(network: PerceptualLoss) -> SetMetric:
    """Fréchet and kernel distance of EfficientNet-Lite0's features."""
    definitions = {"fd_lite0": perceptual.FD_LITE0_DEFINITION, "kid_lite0": perceptual.KID_LITE0_DEFINITION}
    return SetMetric(definitions, partial(perceptual.SetDistance, partial(perceptual.pooled_by, network), LITE0))
