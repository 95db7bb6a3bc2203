"""What one restoration costs: multiplications and additions, and parameters, counted from the network itself."""

import re
from dataclasses import dataclass

import torch

from export.static.graph import map_layers
from export.static.network import StaticGPEN, Upsampling
from models import GPEN, Architecture

_KINDS = (
    ("encoder low-pass filters", r"^encoder\.low_passes"),
    ("latent and style", r"to_latent|mapping"),
    ("encoder convolutions", r"^encoder"),
    ("modulation and demodulation", r"modulation|energy"),
    ("learned constant", r"constant$"),
    ("decoder low-pass filters", r"low_pass|image_upsampling"),
    ("ToRGB convolutions", r"to_rgb"),
    ("decoder upsampling layers", r"\.up\."),
    ("decoder plain layers", r"first_layer|\.plain\."),
)
"""Kind of layer; what its modules (static form) and parameters (trained network) are called. The first match counts."""


@dataclass(frozen=True)
class KindCost:
    """What the layers of one kind cost together."""

    kind: str
    """Name for the table."""
    num_layers: int
    """Layers that compute, in the static form."""
    flops: int
    """For one image; a multiplication and an addition are two."""
    parameters: int
    """Trained values."""


@dataclass(frozen=True)
class Cost:
    """What restoring one image costs."""

    flops: int
    """Convolutions and linear layers; a multiplication and an addition are two. Elementwise operations are left out."""
    parameters: int
    """Trained values of the network, those of the public implementation."""
    kinds: tuple[KindCost, ...]
    """The same by kind of layer, from input to output."""


def count_cost(architecture: Architecture, upsampling: Upsampling = "transposed") -> Cost:
    """Counts what the static form of a network computes for one image; without memory for weights or features.

    Args:
        architecture: Of the network.
        upsampling: Form of the static network; PixelShuffle computes more.

    Returns:
        FLOPs, counted from the graph, and parameters, in all and by kind of layer.
    """
    with torch.device("meta"), torch.no_grad():
        generator = GPEN(architecture)
        layers = map_layers(StaticGPEN(generator, upsampling))
    parameters = {name: parameter.numel() for name, parameter in generator.named_parameters()}
    kinds = tuple(
        KindCost(
            kind,
            sum(1 for layer in layers if _kind(layer.name) == kind),
            sum(layer.flops for layer in layers if _kind(layer.name) == kind),
            sum(number for name, number in parameters.items() if _kind(name) == kind),
        )
        for kind, _ in _KINDS
    )
    return Cost(sum(layer.flops for layer in layers), sum(parameters.values()), kinds)


def _kind(name: str) -> str:
    """The kind of layer that a module or parameter belongs to."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name)), "other")
