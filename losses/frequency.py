"""Distance of spectra that counts most what is furthest from the target."""

import torch
from torch import Tensor

from losses.pixel import at_least_float32


def focal_frequency_loss(restored: Tensor, target: Tensor, focus: float = 1.0) -> Tensor:
    """Squared difference of the Fourier coefficients, weighted by the difference itself.

    Args:
        restored: [N, C, H, W], nominally [-1, 1].
        target: The same.
        focus: Exponent α of the weights; 0 weights all frequencies alike, which is the mean squared difference of
            pixels.

    Returns:
        Scalar, float32, at least 0: the mean over images, channels and frequencies, at most the mean squared difference
        of pixels. The weights are 1 for the worst frequency of a channel and receive no gradient.

    Source:
        Jiang et al. 2021, Focal frequency loss (arXiv 2012.12821), equations 7 to 9, with an orthonormal transform of
        whole images. Differs in the range of pixels, which is [0, 1] there: values are four times as large here.
    """
    difference = torch.fft.fft2(at_least_float32(restored) - at_least_float32(target), norm="ortho")
    squared = difference.real.square() + difference.imag.square()
    weight = squared.detach() ** (focus / 2)
    weight = weight / weight.amax((2, 3), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight * squared).mean()
