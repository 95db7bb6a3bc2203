"""Exact rescalings of the static form: the same function, but channels that share one 8-bit range become even.

They cost nothing at run time and exist only where modulation and demodulation have constants of their own:
conv(x·s; W)·d keeps its value when (1) an input channel of W is multiplied by what its modulation s is divided by, (2)
an output channel of W by what its demodulation d is divided by, (3) a channel of a layer's features by what the
modulations of its consumers are divided by. The encoder's features (4) allow the same, as leaky ReLU is positively
homogeneous: their consumers are the next convolution, the feature strengths of two layers and the linear layer of the
latent.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from export.static.network import StaticBlock, StaticGPEN, StaticLayer, StaticToRGB, constant
from models.quantization.convolution_calls import along


@dataclass(frozen=True)
class RescalingFactors:
    """Positive factors by the name of a layer (such as `first_layer`, `blocks.0.up`) or the number of a feature."""

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """(1) On the weight of each input channel of a modulated convolution, [in_channels]."""
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    """(2) On the weight of each output channel of a demodulated convolution, [C]."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """(3) On the features that a styled layer returns, [C or 2C]."""
    encoder: Mapping[int, Tensor] = field(default_factory=dict)
    """(4) On the features of the encoder, from full resolution (0) downwards, [C]."""


def rescale(network: StaticGPEN, factors: RescalingFactors) -> StaticGPEN:
    """Applies factors to a copy of a network.

    Args:
        network: Stays as it is.
        factors: Names or numbers that are missing mean 1.

    Returns:
        A network of the same function within float32's rounding.
    """
    network = deepcopy(network)
    layers = dict(modulated_layers(network))
    for index, factor in factors.encoder.items():
        _scale_encoder_feature(network, index, factor)
    for name, factor in factors.features.items():
        _scale_features(network, layers, name, factor)
    for name, factor in factors.inputs.items():
        _scale_modulation(network, layers, name, 1 / factor)
        main = main_convolution(layers[name])
        _scale(main, "weight", along(factor, _in_dim(main)))
    for name, factor in factors.outputs.items():
        layer = cast(StaticLayer, layers[name])
        _scale_outputs(main_convolution(layer), factor)
        _scale_demodulation(layer, 1 / factor)
    return network


def random_factors(network: StaticGPEN, deviation: float, seed: int = 0) -> RescalingFactors:
    """Draws factors of all four kinds, log-normal, to see how well a quantizer copes with uneven channels.

    Args:
        network: To draw for.
        deviation: Standard deviation of the factors' logarithm, at least 0.
        seed: Of the drawing.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(number: int) -> Tensor:
        return torch.exp(deviation * torch.randn(number, generator=random, dtype=torch.float64))

    layers = dict(modulated_layers(network))
    styled = {name: layer for name, layer in layers.items() if isinstance(layer, StaticLayer)}
    encoder = cast(list[nn.Conv2d], [network.encoder.from_rgb, *network.encoder.convolutions])
    return RescalingFactors(
        {name: draw(layer.in_channels) for name, layer in layers.items()},
        {name: draw(layer.out_channels) for name, layer in styled.items()},
        {n: draw(layer.out_channels * (1 if layer.feature_bias is None else 2)) for n, layer in styled.items()},
        {index: draw(convolution.out_channels) for index, convolution in enumerate(encoder)},
    )


def modulated_layers(network: StaticGPEN) -> Iterator[tuple[str, StaticLayer | StaticToRGB]]:
    """All layers with a modulation and their names, in the order of the joint modulation."""
    yield "first_layer", network.first_layer
    yield "first_to_rgb", network.first_to_rgb
    for index, block in enumerate(cast(list[StaticBlock], list(network.blocks))):
        yield f"blocks.{index}.up", block.up
        yield f"blocks.{index}.plain", block.plain
        yield f"blocks.{index}.to_rgb", block.to_rgb


def main_convolution(layer: StaticLayer | StaticToRGB) -> nn.Conv2d | nn.ConvTranspose2d:
    """The convolution with the trained weight: all but the filters of an upsampling layer."""
    inner = layer.convolution
    return cast(nn.Conv2d, inner[0] if isinstance(inner, nn.Sequential) else inner)


def consumers(name: str, network: StaticGPEN) -> list[str]:
    """Names of the layers that read the features of a styled layer."""
    if name.endswith(".up"):
        return [name.removesuffix("up") + "plain"]
    above = 0 if name == "first_layer" else int(name.split(".")[1]) + 1
    to_rgb = "first_to_rgb" if name == "first_layer" else name.removesuffix("plain") + "to_rgb"
    return [to_rgb] + ([f"blocks.{above}.up"] if above < len(network.blocks) else [])


def _scale_modulation(
    network: StaticGPEN, layers: Mapping[str, StaticLayer | StaticToRGB], name: str, factor: Tensor
) -> None:
    """Multiplies the modulation of a layer and takes its square out of the demodulation again."""
    start = sum(network.modulation_widths[: list(layers).index(name)])
    rows = torch.ones_like(network.modulation.bias, dtype=torch.float64)
    rows[start : start + len(factor)] = factor.double()
    _scale(network.modulation, "weight", rows[:, None])
    _scale(network.modulation, "bias", rows)
    layer = layers[name]
    if isinstance(layer, StaticLayer):
        _scale(layer.energy, "weight", factor.double() ** -2)


def _scale_demodulation(layer: StaticLayer, factor: Tensor) -> None:
    """Multiplies rsqrt(s² · energy + ε) of each output channel."""
    _scale(layer.energy, "weight", factor.double()[:, None] ** -2)
    _scale(layer.energy, "bias", factor.double() ** -2)


def _scale_features(
    network: StaticGPEN, layers: Mapping[str, StaticLayer | StaticToRGB], name: str, factor: Tensor
) -> None:
    """Multiplies what a styled layer returns and divides the modulations of its consumers."""
    layer = cast(StaticLayer, layers[name])
    drawn, appended = factor[: layer.out_channels], factor[layer.out_channels :]
    _scale_demodulation(layer, drawn)
    _scale(layer, "bias", along(drawn, 1))
    _scale_feature_strength(layer, appended if len(appended) else drawn)
    if layer.feature_bias is not None:
        _scale(layer, "feature_bias", along(appended, 1))
    for consumer in consumers(name, network):
        _scale_modulation(network, layers, consumer, 1 / factor)


def _scale_encoder_feature(network: StaticGPEN, index: int, factor: Tensor) -> None:
    """Multiplies a feature of the encoder and divides all that reads it."""
    encoder = network.encoder
    convolutions = [encoder.from_rgb, *encoder.convolutions]
    _scale_outputs(cast(nn.Conv2d, convolutions[index]), factor)
    if index + 1 < len(convolutions):
        _scale(convolutions[index + 1], "weight", along(1 / factor, 1))
    else:
        pixels = network.to_latent.in_features // len(factor)
        _scale(network.to_latent, "weight", (1 / factor).repeat_interleave(pixels))
    blocks = cast(list[StaticBlock], list(network.blocks))
    readers = [blocks[-1 - index].up, blocks[-1 - index].plain] if index < len(blocks) else [network.first_layer]
    for layer in readers:
        _scale_feature_strength(layer, 1 / factor)


def _scale_feature_strength(layer: StaticLayer, factor: Tensor) -> None:
    if layer.feature_strength is not None:
        _scale(layer, "feature_strength", along(factor, 1))


def _scale_outputs(convolution: nn.Conv2d | nn.ConvTranspose2d, factor: Tensor) -> None:
    """Multiplies the output channels of a convolution; one of PixelShuffle has four for each."""
    repeated = factor.repeat_interleave(convolution.out_channels // len(factor))
    _scale(convolution, "weight", along(repeated, 1 - _in_dim(convolution)))
    if convolution.bias is not None:
        _scale(convolution, "bias", repeated)


def _in_dim(convolution: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Dimension of the weight that counts the input channels."""
    return 0 if isinstance(convolution, nn.ConvTranspose2d) else 1


def _scale(module: nn.Module, name: str, factor: Tensor) -> None:
    """Replaces a constant by its product with a factor."""
    setattr(module, name, constant(cast(Tensor, getattr(module, name)).double() * factor.double()))
