"""The mapping network from latent to style."""

import torch
from torch import Tensor, nn

from models.equalized import EqualizedLinear
from models.precision import without_autocast

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
