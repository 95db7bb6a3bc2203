"""Exact rescalings of the static form, and which of them make a network easiest to quantize."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from export.int8.simulation import ConvolutionRanges, Target, calibration_ranges, restore_with
from export.static.network import StaticBlock, StaticGPEN, StaticLayer, StaticToRGB, constant
from models.quantization import HIGHEST_CODE, LEVELS, along, balance, divide_by_mean, lift_small


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
    """Applies factors (missing ones are 1) to a copy of a network, whose function stays within float32's rounding."""
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


def random_factors(network: StaticGPEN, deviation: float) -> RescalingFactors:
    """Draws factors of all four kinds, log-normal with a standard deviation of the logarithm, to see how well a
    quantizer copes with uneven channels."""
    random = torch.Generator().manual_seed(0)

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
    _scale(layer.energy, "weight", factor.double()[:, None] ** -2)
    _scale(layer.energy, "bias", factor.double() ** -2)


def _scale_features(
    network: StaticGPEN, layers: Mapping[str, StaticLayer | StaticToRGB], name: str, factor: Tensor
) -> None:
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
    setattr(module, name, constant(cast(Tensor, getattr(module, name)).double() * factor.double()))


_UNUSED = 1e-3
"""Features below this share of the largest count as that share; what is never used must not overflow fp16 one day."""


def equalize(network: StaticGPEN, faces: Tensor, target: Target) -> StaticGPEN:
    """Rescales a copy of a network, whose function stays, so that its channels are even on degraded faces, uint8 [N, 3,
    R, R], as far as the weights of a target with power-of-two steps may fill their ranges."""
    network = rescale(network, encoder_factors(network, calibration_ranges(network, faces, histograms=False), target))
    ranges, features = calibration_ranges(network, faces, histograms=False), feature_factors(network, faces)
    inputs, outputs = decoder_factors(network, ranges, target)
    return rescale(network, RescalingFactors(inputs, outputs, features))


def encoder_factors(network: StaticGPEN, ranges: dict[str, ConvolutionRanges], target: Target) -> RescalingFactors:
    """Chooses the factors (4) of the encoder's features."""
    layers = [network.encoder.from_rgb, *cast(list[nn.Conv2d], list(network.encoder.convolutions))]
    names = ["encoder.from_rgb", *(f"encoder.convolutions.{i}" for i in range(len(layers) - 1))]
    factors: dict[int, Tensor] = {}
    before = torch.ones(3, dtype=torch.float64)
    for index, (name, layer) in enumerate(zip(names, layers, strict=True)):
        rows = (layer.weight.double() / before[None, :, None, None]).abs().amax(dim=(1, 2, 3))
        if index + 1 < len(layers):
            following = ranges[names[index + 1]].input.channel_largest
            wanted = 1 / balance(following, layers[index + 1].weight)
        else:
            wanted = 1 / lift_small(ranges[name].output.channel_largest)
        factors[index] = before = output_factors(rows, wanted, target)
    return RescalingFactors(encoder=factors)


def feature_factors(network: StaticGPEN, faces: Tensor) -> dict[str, Tensor]:
    """Chooses the factors (3): powers of two, which round nothing, that make channels even within a factor of 2."""
    largest: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], features: Tensor) -> None:
        channels = features.abs().amax(dim=(0, 2, 3))
        largest[name] = channels.maximum(largest.get(name, channels))

    styled = [(name, layer) for name, layer in modulated_layers(network) if isinstance(layer, StaticLayer)]
    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in styled]
    restore_with(network, faces, lambda _, call: call.compute())
    for hook in hooks:
        hook.remove()
    exponents = {name: values.double().clamp_min(_UNUSED * values.max()).log2() for name, values in largest.items()}
    return {name: torch.exp2((values.median() - values).round()) for name, values in exponents.items()}


def decoder_factors(
    network: StaticGPEN, ranges: dict[str, ConvolutionRanges], target: Target
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Chooses the factors (1) and (2) of all layers with a modulation."""
    inputs, outputs = {}, {}
    names = {id(module): name for name, module in network.named_modules()}
    for name, layer in modulated_layers(network):
        convolution = main_convolution(layer)
        range_ = ranges[names[id(convolution)]]
        weight = convolution.weight.double()
        if isinstance(convolution, nn.ConvTranspose2d):
            weight = weight.transpose(0, 1)
        factor = balance(range_.input.channel_largest, weight)
        weight = weight * factor[None, :, None, None]
        if isinstance(layer, StaticLayer):
            rows = weight.reshape(layer.out_channels, -1).abs().amax(dim=1)
            largest = range_.output.channel_largest.reshape(layer.out_channels, -1).amax(dim=1)
            outputs[name] = output_factors(rows, 1 / lift_small(largest), target)
        else:  # ToRGB has no demodulation to undo a factor: one for the whole weight fills the range of its largest row
            factor = factor * output_factors(weight.abs().max()[None], torch.ones(1), target)
        inputs[name] = factor
    return inputs, outputs


def output_factors(rows: Tensor, wanted: Tensor, target: Target) -> Tensor:
    """Factors on the output channels of a weight, float64 [C], from its largest absolute values and the factors that
    would make the output's channels even, up to a common factor, both [C].

    The card's accumulators are floats, and its rows want to fill power-of-two ranges. onnxruntime's weights have any
    steps, and its outputs one step for all channels, which are made even.
    """
    return filling(rows, wanted) if target == "vacc" else divide_by_mean(lift_small(wanted))


def filling(rows: Tensor, wanted: Tensor) -> Tensor:
    """Factors on the output channels of a weight after which its largest values are 127/128 of powers of two, so that
    each row uses all of its 8-bit codes, although steps are powers of two.

    Of the largest absolute weight of each output channel and the factors that would make the output's channels even, up
    to a common factor, both [C], it gives float64 [C], within √2 of the wanted ones times a common power of two that
    keeps the weights' magnitude.
    """
    rows = lift_small(rows)
    exponent = (rows * wanted).log2()
    exponent = (exponent - exponent.median()).round() + rows.log2().median().round()
    return HIGHEST_CODE / LEVELS * torch.exp2(exponent) / rows
