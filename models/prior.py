"""The face prior: mapping network and synthesis network."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.architecture import Architecture
from models.mapping import MappingNetwork
from models.synthesis import SynthesisNetwork


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
