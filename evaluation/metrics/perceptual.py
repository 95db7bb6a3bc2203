"""LPIPS between images and targets, one number per face, by the network that is also a training loss."""

from pathlib import Path

import torch
from torch import Tensor

from data.ranges import uint8_to_model
from evaluation.metrics.image_metrics import check_pair
from losses.perceptual import LpipsLoss

LPIPS_DEFINITION = "LPIPS 0.1 with AlexNet (package lpips), 8-bit RGB mapped to [-1, 1], no resizing, per image"


class LpipsDistance:
    """LPIPS with the AlexNet backbone, the one that papers report."""

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        """Args:
            weights: Torchvision's AlexNet file; None searches as `losses.weights.find_weights` says.
            device: Where the network runs.

        Raises:
            FileNotFoundError: If the weights cannot be had.
            ValueError: If the file holds something else.
        """
        self._device = torch.device(device)
        self._network = LpipsLoss("alex", weights).to(self._device)

    @torch.no_grad()
    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        """Distance of each image to its target.

        Args:
            image: uint8 [N, 3, R, R], R at least 32.
            target: uint8 [N, 3, R, R].

        Returns:
            float32 [N] on the CPU, at least 0; 0 for equal images.

        Raises:
            ValueError: If they are no uint8 RGB images of one shape.
        """
        check_pair(image, target)
        one, other = (uint8_to_model(pixels.to(self._device)) for pixels in (image, target))
        return self._network.distances(one, other).cpu()
