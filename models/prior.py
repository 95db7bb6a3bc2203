"""The face prior, a StyleGAN2 generator: mapping network and synthesis network, which GPEN takes as its decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.layers import EqualizedLinear, StyledLayer, ToRGB
from models.operators.convolution import run_block, without_autocast


class SynthesisBlock(nn.Module):
    """One resolution: an upsampling styled layer, a plain one and ToRGB; the lowest resolution has no upsampling."""

    def __init__(self, architecture: Architecture, resolution: int) -> None:
        super().__init__()
        channels, features = architecture.channels(resolution), architecture.features(resolution)
        style_dim, noise_mode = architecture.style_dim, architecture.noise_mode
        self.up: StyledLayer | None = None
        before = channels
        if resolution > architecture.resolutions[0]:
            below = architecture.features(resolution // 2)
            self.up = StyledLayer(below, channels, style_dim, noise_mode, upsample=True)
            before = features
        self.plain = StyledLayer(before, channels, style_dim, noise_mode)
        self.to_rgb = ToRGB(features, style_dim, upsample=self.up is not None)

    def forward(
        self, x: Tensor, image: Tensor | None, styles: Sequence[Tensor], noises: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Maps features and image of half the resolution to those of this one.

        Args:
            x: [N, C, H/2, W/2]; at the lowest resolution the constant [N, C, H, W].
            image: [N, 3, H/2, W/2], None at the lowest resolution.
            styles: One [N, D] for every styled layer and one for ToRGB.
            noises: One [N, C or 1, H, W] for every styled layer; empty for noise mode `none`.
        """
        layers = [self.plain] if self.up is None else [self.up, self.plain]
        for index, layer in enumerate(layers):
            x = layer(x, styles[index], noises[index] if noises else None)
        return x, self.to_rgb(x, styles[len(layers)], image)


class SynthesisNetwork(nn.Module):
    """StyleGAN2's generator with skip connections and a choice of noise injection.

    Source: StyleGAN2 (arXiv 1912.04958) figure 7b; GPEN (arXiv 2105.06070) section 3.1 for `concat`.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        lowest = architecture.resolutions[0]
        self.constant = nn.Parameter(torch.randn(1, architecture.channels(lowest), lowest, lowest))
        self.blocks = nn.ModuleList(SynthesisBlock(architecture, r) for r in architecture.resolutions)
        self.architecture = architecture
        self.recompute = False
        """Keep only what lies between the blocks for the backward pass, see `run_block`."""

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of the noise of every layer, in the order in which `forward` takes them; empty for `none`."""
        if self.architecture.noise_mode == "none":
            return []
        twice = [r for r in self.architecture.resolutions for _ in range(2)][1:]
        return [(self.architecture.noise_channels(r), r, r) for r in twice]

    def forward(self, styles: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Draws images [N, 3, R, R], about [-1, 1], not clipped, float32, from styles [N, L, D] and one noise [N, C or
        1, H, W] per layer, from 4×4 upwards (see `noise_shapes`); ignored for `none`."""
        has_noise = self.architecture.noise_mode != "none"
        x = self.constant.expand(styles.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        by_layer = styles.unbind(dim=1)
        first = 0
        for block in self.blocks:
            after = first + (1 if image is None else 2)
            some_noises = noises[first:after] if has_noise else ()
            x, image = run_block(block, x, image, by_layer[first : after + 1], some_noises, recompute=self.recompute)
            first = after
        assert image is not None  # for the type checker: an architecture has at least four resolutions
        return image


LEARNING_RATE_MULTIPLIER = 0.01


class MappingNetwork(nn.Module):
    """Pixel norm, then linear layers with leaky ReLU, in float32 whatever the precision of the run.

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
    """StyleGAN2's generator; inside GPEN it is the decoder."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.mapping = MappingNetwork(architecture.style_dim, architecture.num_mapping_layers)
        self.synthesis = SynthesisNetwork(architecture)
        self.architecture = architecture

    def forward(self, latent: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Draws images [N, 3, R, R] from latents [N, D], N(0, 1) for random faces, with one style for all layers."""
        styles = self.mapping(latent)
        return self.synthesis(styles[:, None].expand(-1, self.architecture.num_styles, -1), noises)
