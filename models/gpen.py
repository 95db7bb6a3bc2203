"""GPEN: the encoder and, as its decoder, the prior."""

import torch
from torch import Tensor, nn

from models.architecture import Architecture, FedConvolutions
from models.encoder import Encoder
from models.prior import Prior


class GPEN(nn.Module):
    """Restores a face: the deepest features give the latent, the others take the place of the noise.

    Args:
        architecture: Resolution, channels, noise mode.

    Source: GPEN (arXiv 2105.06070) figure 2; nothing in it is random.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.encoder = Encoder(architecture)
        self.decoder = Prior(architecture)
        self.architecture = architecture

    def forward(self, degraded: Tensor) -> Tensor:
        """Restores faces.

        Args:
            degraded: [N, 3, R, R] in [-1, 1].

        Returns:
            Restored faces [N, 3, R, R], about [-1, 1], not clipped, float32.
        """
        latent, features = self.encoder(degraded)
        return self.decoder(latent, noises_from_features(features, self.architecture.fed_convolutions))


def noises_from_features(features: list[Tensor], fed: FedConvolutions = "both") -> list[Tensor]:
    """The feature of each resolution for its two layers, zeros for one that is not fed; at 4×4 for the only one."""
    lowest, *others = features
    layers = ("first", "second")
    return [lowest, *(x if fed in ("both", layer) else torch.zeros_like(x) for x in others for layer in layers)]
