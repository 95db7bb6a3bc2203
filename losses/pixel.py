"""Distances between restored and target pixels."""

import torch
from torch import Tensor
from torch.nn import functional


def l1_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference.

    Args:
        restored: [N, C, H, W], nominally [-1, 1].
        target: [N, C, H, W], [-1, 1].

    Returns:
        Scalar, float32, at least 0.

    Source:
        The content loss of GPEN (arXiv 2105.06070), section 3, as a mean over pixels.
    """
    return functional.l1_loss(at_least_float32(restored), at_least_float32(target))


def smooth_l1_loss(restored: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Mean absolute difference that is quadratic, d² / (2 beta), below `beta`.

    Args:
        restored: [N, C, H, W], nominally [-1, 1].
        target: [N, C, H, W], [-1, 1].
        beta: Difference from which on it is linear; 1 is half the range of the pixels, so nearly all is quadratic.

    Returns:
        Scalar, float32, at least 0.

    Source:
        Girshick 2015 (arXiv 1504.08083), equation 3; the content loss of the released GPEN training script.
    """
    return functional.smooth_l1_loss(at_least_float32(restored), at_least_float32(target), beta=beta)


def at_least_float32(values: Tensor) -> Tensor:
    """Turns half precision into float32, where means do not overflow; float64 stays for numerical gradient checks."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unit_length(features: Tensor) -> Tensor:
    """Scales the channels of each place of features [N, C, H, W] to length 1; places without any stay 0."""
    features = at_least_float32(features)
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)
