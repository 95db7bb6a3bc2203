"""The face prior: mapping network and synthesis network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.equalized import EqualizedLinear
from models.operators.passes import without_autocast
from models.synthesis import SynthesisNetwork

LEARNING_RATE_MULTIPLIER = 0.01


class MappingNetwork(nn.Module):
    """Pixel norm, then linear layers with leaky ReLU, in float32 whatever the precision of the run.

    Args:
        style_dim: D, the width of latent, layers and style.
        num_layers: Linear layers.

    Source: StyleGAN (arXiv 1812.04948) section 2; learning rate multiplier 0.01.
    """

    def __init__(self, style_dim: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                EqualizedLinear(style_dim, style_dim, learning_rate_multiplier=LEARNING_RATE_MULTIPLIER, activate=True)
                for _ in range(num_layers)
            )
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Maps latents [N, D] to styles [N, D]."""
        with without_autocast(latent.device):
            latent = latent.float()
            return self.layers(latent * torch.rsqrt(latent.square().mean(dim=1, keepdim=True) + 1e-8))


class Prior(nn.Module):
    """StyleGAN2's generator; inside GPEN it is the decoder.

    Args:
        architecture: Resolution, channels, noise mode.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.mapping = MappingNetwork(architecture.style_dim, architecture.num_mapping_layers)
        self.synthesis = SynthesisNetwork(architecture)
        self.architecture = architecture

    def forward(self, latent: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Draws images [N, 3, R, R] from latents [N, D] with one style for all layers.

        Args:
            latent: [N, D]; N(0, 1) for random faces.
            noises: As `SynthesisNetwork.forward` takes them.
        """
        styles = self.mapping(latent)
        return self.synthesis(styles[:, None].expand(-1, self.architecture.num_styles, -1), noises)
