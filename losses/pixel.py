"""Distances between restored and target images without a network: of pixels, and of spectra."""

import torch
from torch import Tensor
from torch.nn import functional


def l1_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of [N, C, H, W], nominally [-1, 1], float32.

    Source: The content loss of GPEN (arXiv 2105.06070), section 3, as a mean over pixels.
    """
    return functional.l1_loss(at_least_float32(restored), at_least_float32(target))


def smooth_l1_loss(restored: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Mean absolute difference of [N, C, H, W], nominally [-1, 1], float32, that is quadratic, d² / (2 beta), below
    `beta`; 1 is half the range of the pixels, so nearly all is quadratic.

    Source: Girshick 2015 (arXiv 1504.08083), equation 3; the content loss of the released GPEN training script.
    """
    return functional.smooth_l1_loss(at_least_float32(restored), at_least_float32(target), beta=beta)


def at_least_float32(values: Tensor) -> Tensor:
    """Turns half precision into float32, where means do not overflow; float64 stays for numerical gradient checks."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unit_length(features: Tensor) -> Tensor:
    """Scales the channels of each place of features [N, C, H, W] to length 1; places without any stay 0."""
    features = at_least_float32(features)
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)


def focal_frequency_loss(restored: Tensor, target: Tensor, focus: float = 1.0) -> Tensor:
    """Squared difference of the Fourier coefficients of images [N, C, H, W], nominally [-1, 1], weighted by the
    difference itself to the power of the focus α: 0 weights all frequencies alike, which is the mean squared difference
    of pixels.

    Gives a scalar, float32, at least 0: the mean over images, channels and frequencies, at most the mean squared
    difference of pixels. The weights are 1 for the worst frequency of a channel and receive no gradient.

    Source: Jiang et al. 2021, Focal frequency loss (arXiv 2012.12821), equations 7 to 9, with an orthonormal transform
    of whole images. Differs in the range of pixels, which is [0, 1] there: values are four times as large here.
    """
    difference = torch.fft.fft2(at_least_float32(restored) - at_least_float32(target), norm="ortho")
    squared = difference.real.square() + difference.imag.square()
    weight = squared.detach() ** (focus / 2)
    weight = weight / weight.amax((2, 3), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight * squared).mean()
