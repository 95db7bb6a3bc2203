"""GPEN: an encoder that turns a degraded face into a latent and noise inputs, and, as its decoder, the prior."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture, FedConvolutions
from models.layers import EqualizedConvolution, EqualizedLinear
from models.operators.resampling import LowPass
from models.prior import Prior


class Encoder(nn.Module):
    """1×1 convolution at full resolution, one FIR-filtered 3×3 convolution of stride 2 per halving, a linear layer.

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
        """Encodes images [N, 3, R, R] in [-1, 1] to a latent [N, D] and features [N, C, r, r] of every resolution r,
        from 4 pixels upwards; zeros above the one at which the encoder begins (the public code draws noise there)."""
        if self.above:
            image = F.interpolate(image, size=(self.resolution, self.resolution), mode="bilinear")
        x = self.from_rgb(image.contiguous(memory_format=torch.channels_last))
        features = [x]
        for down in self.downs:
            x = down(x)
            features.append(x)
        zeros = [x.new_zeros(x.shape[0], *shape) for shape in self.above]
        return self.to_latent(x.contiguous().flatten(1)), features[::-1] + zeros


class GPEN(nn.Module):
    """Restores a face: the deepest features give the latent, the others take the place of the noise.

    Source: GPEN (arXiv 2105.06070) figure 2; nothing in it is random.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.encoder = Encoder(architecture)
        self.decoder = Prior(architecture)
        self.architecture = architecture

    def forward(self, degraded: Tensor) -> Tensor:
        """Restores degraded faces [N, 3, R, R] in [-1, 1]: the same shape, about [-1, 1], not clipped, float32."""
        # The deepest features as the latent, all of them in the place of the noise (figure 2).
        latent, features = self.encoder(degraded)
        return self.decoder(latent, noises_from_features(features, self.architecture.fed_convolutions))


def noises_from_features(features: list[Tensor], fed: FedConvolutions = "both") -> list[Tensor]:
    """The feature of each resolution for its two layers, zeros for one that is not fed; at 4×4 for the only one."""
    lowest, *others = features
    layers = ("first", "second")
    return [lowest, *(x if fed in ("both", layer) else torch.zeros_like(x) for x in others for layer in layers)]
