"""Texture: what features look like regardless of where they stand."""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.pixel import at_least_float32

STABILITY = 1e-6
"""Of the quotients of `structure_texture_distances`, as in the paper's code."""


def gram_loss(features_restored: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the mean absolute difference of Gram matrices; no gradient reaches the target's features.

    Args:
        features_restored: Features of the restored images, one tensor [N, C, H, W] per layer.
        features_target: Features of the targets, the same layers in the same order.

    Returns:
        Scalar, float32, at least 0. A Gram matrix is the mean over places of the products of channels, over C.

    Source:
        Gatys et al. 2016 (CVPR), equation 3; absolute differences as in GFPGAN (arXiv 2101.04061), equation 5.
    """
    distances = [
        (_gram_matrix(ours) - _gram_matrix(theirs.detach())).abs().mean()
        for ours, theirs in zip(features_restored, features_target, strict=True)
    ]
    return torch.stack(distances).mean()


def _gram_matrix(features: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, C], in float32 also under autocast."""
    _, channels, height, width = features.shape
    with torch.autocast(features.device.type, enabled=False):
        flat = at_least_float32(features).flatten(2)  # [N, C, H·W]
        return flat @ flat.mT / (channels * height * width)


def structure_texture_distances(features_restored: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """One less the mean similarity of texture (a channel's mean) and structure (its correlation with the target's).

    It is DISTS' construction with the same weight for every channel, on whatever features are given: never to be
    reported as DISTS, whose weights and VGG features are others.

    Args:
        features_restored: Images and their features, one tensor [N, C, H, W] per layer.
        features_target: Those of the targets, the same layers in the same order.

    Returns:
        [N], float32, 0 for equal images, at most 2.

    Source: Ding et al. 2020 (arXiv 2004.07728), equations 4 to 6.
    """
    similarities = []
    with torch.autocast(features_restored[0].device.type, enabled=False):
        for ours, theirs in zip(features_restored, features_target, strict=True):
            x, y = at_least_float32(ours).flatten(2), at_least_float32(theirs).flatten(2)  # [N, C, H·W]
            x_mean, y_mean = x.mean(2), y.mean(2)
            x_variance, y_variance = x.var(2, unbiased=False), y.var(2, unbiased=False)
            covariance = (x * y).mean(2) - x_mean * y_mean
            texture = (2 * x_mean * y_mean + STABILITY) / (x_mean.square() + y_mean.square() + STABILITY)
            structure = (2 * covariance + STABILITY) / (x_variance + y_variance + STABILITY)
            similarities.append((texture + structure) / 2)
    return 1 - torch.cat(similarities, dim=1).mean(1)
