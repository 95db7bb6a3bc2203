"""The encoder of GPEN: a degraded face to a latent and to the features that take the place of the noise."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture
from models.equalized import EqualizedConvolution, EqualizedLinear
from models.operators.resampling import LowPass


class Encoder(nn.Module):
    """1×1 convolution at full resolution, one FIR-filtered 3×3 convolution of stride 2 per halving, a linear layer.

    Args:
        architecture: Resolution, channels, style width.

    Source: GPEN (arXiv 2105.06070) section 3.1 and its public implementation.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.resolution = architecture.encoder_resolution or architecture.resolution
        downwards = [r for r in architecture.resolutions[::-1] if r <= self.resolution]
        self.above = [(architecture.channels(r), r, r) for r in architecture.resolutions if r > self.resolution]
        self.from_rgb = EqualizedConvolution(3, architecture.channels(downwards[0]), kernel_size=1)
        self.downs = nn.ModuleList(
            nn.Sequential(
                LowPass(architecture.channels(above), padding=2),
                EqualizedConvolution(architecture.channels(above), architecture.channels(below), 3, stride=2),
            )
            for above, below in itertools.pairwise(downwards)
        )
        lowest = downwards[-1]
        self.to_latent = EqualizedLinear(
            architecture.channels(lowest) * lowest**2, architecture.style_dim, activate=True
        )

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encodes images.

        Args:
            image: [N, 3, R, R] in [-1, 1].

        Returns:
            Latent [N, D] and the features [N, C, r, r] of every resolution r, from 4 pixels upwards; zeros above the
            resolution at which the encoder begins (the public code draws noise there).
        """
        if self.above:
            image = F.interpolate(image, size=(self.resolution, self.resolution), mode="bilinear")
        x = self.from_rgb(image.contiguous(memory_format=torch.channels_last))
        features = [x]
        for down in self.downs:
            x = down(x)
            features.append(x)
        zeros = [x.new_zeros(x.shape[0], *shape) for shape in self.above]
        return self.to_latent(x.contiguous().flatten(1)), features[::-1] + zeros
