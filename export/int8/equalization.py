"""Which rescalings make a network easiest to quantize; the choice depends on its function, not on how it is scaled."""

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from export.int8.rescaling import RescalingFactors, main_convolution, modulated_layers, rescale
from export.int8.simulation import ConvolutionRanges, calibration_ranges, restore_with
from export.static.network import StaticGPEN, StaticLayer
from models.quantization.arithmetic import BALANCE, HIGHEST_CODE, LEVELS, balance, lift_small

_UNUSED = 1e-3
"""Features below this share of the largest count as that share; what is never used must not overflow fp16 one day."""


def equalize(network: StaticGPEN, faces: Tensor, share: float = BALANCE) -> StaticGPEN:
    """Rescales a network so that its channels are even and its weights fill power-of-two ranges.

    Args:
        network: Stays as it is.
        faces: Degraded faces, uint8 [N, 3, R, R].
        share: See `models.quantization.channel_balance.balance`.

    Returns:
        A network of the same function.
    """
    network = rescale(network, encoder_factors(network, calibration_ranges(network, faces, histograms=False), share))
    ranges, features = calibration_ranges(network, faces, histograms=False), feature_factors(network, faces)
    inputs, outputs = decoder_factors(network, ranges, share)
    return rescale(network, RescalingFactors(inputs, outputs, features))


def encoder_factors(
    network: StaticGPEN, ranges: dict[str, ConvolutionRanges], share: float = BALANCE
) -> RescalingFactors:
    """Chooses the factors (4) of the encoder's features."""
    layers = [network.encoder.from_rgb, *cast(list[nn.Conv2d], list(network.encoder.convolutions))]
    names = ["encoder.from_rgb", *(f"encoder.convolutions.{i}" for i in range(len(layers) - 1))]
    factors: dict[int, Tensor] = {}
    before = torch.ones(3, dtype=torch.float64)
    for index, (name, layer) in enumerate(zip(names, layers, strict=True)):
        rows = (layer.weight.double() / before[None, :, None, None]).abs().amax(dim=(1, 2, 3))
        if index + 1 < len(layers):
            following = ranges[names[index + 1]].input.channel_largest
            wanted = 1 / balance(following, layers[index + 1].weight, share)
        else:
            wanted = 1 / lift_small(ranges[name].output.channel_largest)
        factors[index] = before = filling(rows, wanted)
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
    network: StaticGPEN, ranges: dict[str, ConvolutionRanges], share: float = BALANCE
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
        factor = balance(range_.input.channel_largest, weight, share)
        weight = weight * factor[None, :, None, None]
        if isinstance(layer, StaticLayer):
            rows = weight.reshape(layer.out_channels, -1).abs().amax(dim=1)
            largest = range_.output.channel_largest.reshape(layer.out_channels, -1).amax(dim=1)
            outputs[name] = filling(rows, 1 / lift_small(largest))
        else:  # ToRGB has no demodulation to undo a factor: one for the whole weight fills the range of its largest row
            factor = factor * filling(weight.abs().max()[None], torch.ones(1))
        inputs[name] = factor
    return inputs, outputs


def filling(rows: Tensor, wanted: Tensor) -> Tensor:
    """Factors on the output channels of a weight after which its largest values are 127/128 of powers of two.

    Such a row uses all of its 8-bit codes, although steps are powers of two.

    Args:
        rows: Largest absolute weight of each output channel, [C].
        wanted: Factors that would make the output's channels even, up to a common factor, [C].

    Returns:
        float64 [C], within √2 of the wanted ones times a common power of two that keeps the weights' magnitude.
    """
    rows = lift_small(rows)
    exponent = (rows * wanted).log2()
    exponent = (exponent - exponent.median()).round() + rows.log2().median().round()
    return HIGHEST_CODE / LEVELS * torch.exp2(exponent) / rows
