"""Distances between two sets of images by the features of a network: Fréchet and kernel distance."""

from collections.abc import Callable, Mapping

import torch
import torch.distributed
from torch import Tensor

Measure = Callable[[Tensor, Tensor], float]
"""Features float64 [N, F] of the images and [M, F] of the targets to their distance."""


class SetDistance:
    """Distances between the features of two growing sets of images; all features are kept, 8 KB of FID's an image."""

    def __init__(self, extract: Callable[[Tensor], Tensor], measures: Mapping[str, Measure]) -> None:
        """Args:
        extract: uint8 [N, 3, H, W] to features [N, F], on any device; may be shared between distances.
        measures: Distances by the names of their metrics."""
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
