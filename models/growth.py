"""Networks that go on at a larger resolution from what they learned at a smaller one."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from models.architecture import Architecture
from models.gpen import GPEN
from models.layers import GAIN
from models.operators.activation import LEAKY_SLOPE
from models.prior import Prior

_BOTH_SIGNS = torch.cat((torch.eye(3), -torch.eye(3)))
"""[6, 3]: red, green and blue, and the same negated, so that leaky ReLU loses nothing of them."""


def grow(state: Mapping[str, Tensor], smaller: Architecture, network: Prior | GPEN) -> dict[str, Tensor]:
    """The state of a new network of a larger resolution, filled from that of a smaller one (of the same kind, an
    architecture that differs in resolution only): it draws what the smaller one draws, enlarged, and a GPEN restores
    the reduced face; what lies above learns from there. Only the channels of the new layers beside that are random.

    Colours pass the encoder's new layers in channels of their own, reduced by the FIR filter; the new ToRGB layers
    begin at zero. ValueError where a new layer has fewer than the six channels that this takes.

    Source: growth that keeps the function, Net2Net (arXiv 1511.05641); growth by resolution, Progressive GAN (arXiv
    1710.10196), without its fading.
    """
    grown = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    num_new = len(network.architecture.resolutions) - len(smaller.resolutions)
    for index in range(len(smaller.resolutions), len(network.architecture.resolutions)):
        prefix = "decoder." if isinstance(network, GPEN) else ""
        grown[f"{prefix}synthesis.blocks.{index}.to_rgb.convolution.weight"].zero_()
    for name, tensor in state.items():
        if not name.startswith("encoder.from_rgb."):
            shifted = re.sub(r"^encoder\.downs\.(\d+)", lambda m: f"encoder.downs.{int(m[1]) + num_new}", name)
            grown[shifted] = tensor
    if isinstance(network, GPEN):
        _pass_colours(grown, state, network.architecture, num_new)
    return grown


def _pass_colours(
    grown: dict[str, Tensor], state: Mapping[str, Tensor], architecture: Architecture, num_new: int
) -> None:
    """Fills the encoder's new layers so that the first old one gets the reduced image."""
    channels = [architecture.channels(r) for r in architecture.resolutions[::-1][:num_new]]
    if min(channels) < len(_BOTH_SIGNS):
        raise ValueError(
            f"growing takes {len(_BOTH_SIGNS)} channels of every new layer of the encoder, got {min(channels)}; take a "
            "wider network (narrow, channel_multiplier)"
        )
    # Every layer's scale divides by √(fan in), see EqualizedConvolution; its gain is that of the activation.
    first = grown["encoder.from_rgb.weight"]  # [C, 3, 1, 1]
    first[: len(_BOTH_SIGNS)] = math.sqrt(3) * _BOTH_SIGNS[:, :, None, None]
    grown["encoder.from_rgb.bias"][: len(_BOTH_SIGNS)] = 0
    for index, width in enumerate(channels):
        weight = grown[f"encoder.downs.{index}.1.weight"]  # [C', C, 3, 3]
        is_last = index == num_new - 1
        wanted = state["encoder.from_rgb.weight"][:, :, 0, 0] / math.sqrt(3) if is_last else _BOTH_SIGNS  # of colours
        rows = weight[: len(wanted)]
        rows.zero_()
        # (leaky(x) - leaky(-x)) = (1 + slope) x, in the middle of the kernel, which the FIR filter centres.
        colours = wanted * math.sqrt(9 * width) / (GAIN * (1 + LEAKY_SLOPE))
        rows[:, : len(_BOTH_SIGNS), 1, 1] = torch.cat((colours, -colours), dim=1)
        bias = grown[f"encoder.downs.{index}.1.bias"]
        bias[: len(wanted)] = state["encoder.from_rgb.bias"] if is_last else 0
