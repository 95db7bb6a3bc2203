"""Distances of restored and target images: of pixels, of spectra, and of features that a network gave."""

from collections.abc import Sequence

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


SMALLEST_SQUARED = 1e-4
"""Squared difference, of pixels in [0, 1], below which `psnr_loss` hardly asks for more: 40 dB."""


def psnr_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Mean over images [N, C, H, W], nominally [-1, 1], of the decibels that each is below a PSNR of 40, float32: 10
    log10(1 + 10⁴ MSE), at least 0, with the MSE of pixels in [0, 1].

    An image that is hard to restore counts as much as an easy one: each is asked for the same share of its error.

    Source: Chen et al. 2021, HINet (arXiv 2105.06086), section 3.4; the constant of its public code is far smaller, and
    faces that were hardly degraded would outweigh all others.
    """
    difference = at_least_float32(restored) - at_least_float32(target)
    squared = difference.square().mean((1, 2, 3)) / 4
    return 10 * (1 + squared / SMALLEST_SQUARED).log10().mean()


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
    # Squared distance of each frequency (equation 7), and the weight that follows it (equation 8).
    difference = torch.fft.fft2(at_least_float32(restored) - at_least_float32(target), norm="ortho")
    squared = difference.real.square() + difference.imag.square()
    weight = squared.detach() ** (focus / 2)
    weight = weight / weight.amax((2, 3), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight * squared).mean()


def feature_distances(features_restored: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """The distances [N] of `PerceptualLoss` from features of both images, layer by layer."""
    scales = []
    with torch.autocast(features_restored[0].device.type, enabled=False):
        for ours, theirs in zip(features_restored, features_target, strict=True):
            difference = unit_length(ours) - unit_length(theirs)
            scales.append(difference.square().sum(1).mean((1, 2)))
    return torch.stack(scales).mean(0)


STABILITY = 1e-6
"""Constant that keeps the quotients of `structure_texture_distances` finite, as in the paper's code."""


def gram_loss(features_restored: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the mean absolute difference of Gram matrices of features, one tensor [N, C, H, W] per layer
    in the same order: scalar, float32, at least 0; no gradient reaches the target's. A Gram matrix is the mean over
    places of the products of channels, over C.

    Source: Gatys et al. 2016 (CVPR), equation 3; absolute differences as in GFPGAN (arXiv 2101.04061), equation 5.
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
    """One less the mean similarity of texture (a channel's mean) and structure (its correlation with the target's), of
    images and their features, one tensor [N, C, H, W] per layer in the same order: [N], float32, 0 for equal images, at
    most 2.

    It is DISTS' construction with the same weight for every channel, on whatever features are given: never to be
    reported as DISTS, whose weights and VGG features are others.

    Source: Ding et al. 2020 (arXiv 2004.07728), equations 4 to 6.
    """
    similarities = []
    with torch.autocast(features_restored[0].device.type, enabled=False):
        for ours, theirs in zip(features_restored, features_target, strict=True):
            x, y = at_least_float32(ours), at_least_float32(theirs)
            # Means, variances and covariance of each channel over all places.
            x_mean, y_mean = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
            x, y = x - x_mean, y - y_mean
            x_variance, y_variance, covariance = (
                (a * b).mean((2, 3), keepdim=True) for a, b in ((x, x), (y, y), (x, y))
            )
            # Texture compares the means (equation 4), structure the variation around them (equation 5).
            texture = (2 * x_mean * y_mean + STABILITY) / (x_mean.square() + y_mean.square() + STABILITY)
            structure = (2 * covariance + STABILITY) / (x_variance + y_variance + STABILITY)
            similarities.append((texture + structure) / 2)
    return 1 - torch.cat(similarities, dim=1).mean((1, 2, 3))
