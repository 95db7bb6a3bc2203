"""Fréchet Inception distance between two sets of images, by torchmetrics with torch-fidelity's Inception network."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import torch
import torch.distributed
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

from evaluation.metrics.image_metrics import check_pair
from losses.weights import WeightsFile, find_weights, load_tensors

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
_TARGET_SUMS = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")


class FrechetDistance:
    """Distance between the feature distributions of two growing sets of images."""

    def __init__(self, inception: nn.Module) -> None:
        """Args:
        inception: uint8 [N, 3, H, W] to features [N, F]; from `load_inception`, may be shared between distances.
        """
        weights = next(inception.parameters(), torch.zeros(0))
        self._metric = FrechetInceptionDistance(feature=inception).to(weights.device)

    def add(self, images: Tensor, targets: Tensor) -> None:
        """Adds images to the one set and as many targets to the other.

        Args:
            images: uint8 [N, 3, H, W], on any device.
            targets: The same for the other set; need not show the same faces.

        Raises:
            ValueError: If they are no uint8 RGB images of one shape.
        """
        check_pair(images, targets)
        self.add_images(images)
        self._metric.update(targets.to(self._metric.device), real=True)

    def add_images(self, images: Tensor) -> None:
        """Adds uint8 [N, 3, H, W] to the one set alone, where the other's targets are those of another distance."""
        self._metric.update(images.to(self._metric.device), real=False)

    def values(self, targets_of: object = None) -> dict[str, float]:
        """`value` by its name; the targets are those of another such distance where one is given."""
        return {"fid": self.value(targets_of if isinstance(targets_of, FrechetDistance) else None)}

    def value(self, targets_of: Self | None = None) -> float:
        """The distance between the images and the targets added so far in all processes, which call it together.

        Args:
            targets_of: Has the targets, so that they go through the network once; None for its own.

        Raises:
            ValueError: If there are fewer than two images.
        """
        if targets_of is not None:
            for name in _TARGET_SUMS:
                setattr(self._metric, name, getattr(targets_of._metric, name).clone())
        num_images = self._metric.real_features_num_samples.clone()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(num_images)
        if int(num_images) < 2:
            raise ValueError("FID needs at least two images; leave the metric out")
        return float(self._metric.compute())


def load_inception(weights: Path | None = None) -> nn.Module:
    """Loads the Inception network that FID is defined by.

    Args:
        weights: Its weights; None searches as `losses.weights.find_weights` says.

    Returns:
        Module in evaluation mode on the CPU: uint8 [N, 3, H, W] to float32 [N, 2048].

    Raises:
        ModuleNotFoundError: If the optional package torch-fidelity is missing.
        FileNotFoundError: If the weights cannot be had.
        ValueError: If the file is not the one that defines FID.
    """
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
