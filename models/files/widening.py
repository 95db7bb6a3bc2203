"""From StyleGAN2's added noise to GPEN's concatenated noise without changing what the network draws, and from a prior
to a smaller one."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from models.architecture import Architecture
from models.prior import Prior


def widen_to_concat(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Turns a prior with added noise into one with concatenated noise that draws the same images without noise.

    Every layer that will read 2C channels gets zero weights for the new ones; the noise strengths start at 0, as in
    an untrained network.

    Args:
        state: State dict of a `Prior` of this architecture.
        architecture: With noise mode `add`.

    Returns:
        State dict of a `Prior` of the same architecture with noise mode `concat`.

    Raises:
        ValueError: The noise mode is another.
    """
    if architecture.noise_mode != "add":
        raise ValueError(f"only a prior with noise mode add can be widened, got {architecture.noise_mode}")
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in Prior(replace(architecture, noise_mode="concat")).state_dict().items()}
    return {name: _widen(name, tensor, shapes[name]) for name, tensor in state.items()}


def drop_blocks(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Leaves out the layers of a prior above a resolution; what is left draws the image so far, at that size.

    Args:
        state: State dict of a `Prior` of a higher resolution, else of this architecture.
        architecture: Of the smaller prior.
    """
    with torch.device("meta"):
        names = Prior(architecture).state_dict()
    return {name: tensor for name, tensor in state.items() if name in names or not name.startswith("synthesis.blocks.")}


def _widen(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    if name.endswith("noise_strength"):
        return torch.zeros_like(tensor)
    if tensor.shape == shape:
        return tensor
    # New modulations start like those of a new network: 1 whatever the style.
    wide = torch.full(shape, 1.0 if name.endswith("modulation.bias") else 0.0)
    if name.endswith("convolution.weight"):
        # ToRGB has no demodulation that would undo the smaller scale 1/√(fan in) of twice the channels.
        wide[:, : tensor.shape[1]] = tensor * (math.sqrt(2) if ".to_rgb." in name else 1.0)
    else:
        wide[: tensor.shape[0]] = tensor
    return wide
