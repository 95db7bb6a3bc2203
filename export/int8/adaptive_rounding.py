"""Learned rounding: each weight goes up or down so that the output of its convolution stays, not the weight itself."""

from copy import deepcopy
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from export.int8.simulation import Grids, compute_in_integers, restore_with
from export.static.network import constant
from models.quantization import HIGHEST_CODE, ConvolutionCall, along, codes, quantized_convolution

STRETCH = (-0.1, 1.1)
"""Ends of the stretched sigmoid, so that a finite variable reaches 0 and 1."""
STEEPNESS_RANGE = (20.0, 2.0)
"""Of the regulariser, from the first to the last iteration."""
WARM_UP = 0.2
"""Share of the iterations without regulariser."""
LEARNING_RATE = 1e-2
REGULARIZATION = 1.0
"""Weight of the regulariser, if an error as large as that of rounding to nearest counts 1."""
BATCH_SIZE = 8


def learn_rounding(network: nn.Module, grids: Grids, faces: Tensor, num_iterations: int = 400) -> nn.Module:
    """Replaces the weights of quantized convolutions by multiples of their step, in a copy of the network.

    One convolution after another, with the inputs that the network quantized so far gives it on degraded faces, uint8
    [N, 3, R, R], learns for each weight in so many steps of Adam whether to round up or down, so that its output comes
    closest to that of the float weight.

    Source: AdaRound (arXiv 2004.10568) equations 21 to 25 and section 3.4 (asymmetric reconstruction).
    """
    rounded = deepcopy(network)
    for name in grids:
        x, y, call = _operands(network, rounded, grids, name, faces)
        weight = _learned_codes(call, x, y, grids[name].weight_step, num_iterations)
        module = rounded.get_submodule(name)
        module.weight = constant(weight * along(grids[name].weight_step, call.out_dim))
    return rounded


def rounding_up(variable: Tensor) -> Tensor:
    """How much of a step is added to the weight rounded down, [0, 1], of an unbounded variable (equation 23)."""
    low, high = STRETCH
    return (torch.sigmoid(variable) * (high - low) + low).clamp(0, 1)


def _operands(
    network: nn.Module, rounded: nn.Module, grids: Grids, name: str, faces: Tensor
) -> tuple[Tensor, Tensor, ConvolutionCall]:
    """Quantized inputs of a convolution, the outputs that the float network has there, and a call of it."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    calls: list[ConvolutionCall] = []
    quantize = compute_in_integers(grids)

    def keep_output(other: str, call: ConvolutionCall) -> Tensor:
        y = call.compute()
        if other == name:
            outputs.append(y if call.bias is None else y - along(call.bias, 1))
            calls.append(replace(call, x=call.x[:1]))
        return y

    def keep_input(other: str, call: ConvolutionCall) -> Tensor:
        if other == name:
            step = grids[name].input_step
            inputs.append(codes(call.x, step, grids[name].input_codes) * step)
        return quantize(other, call)

    restore_with(network, faces, keep_output)
    restore_with(rounded, faces, keep_input)
    return torch.cat(inputs), torch.cat(outputs), calls[0]


def _learned_codes(call: ConvolutionCall, x: Tensor, y: Tensor, step: Tensor, num_iterations: int) -> Tensor:
    step = along(step, call.out_dim)
    down = (call.weight / step).floor()
    low, high = STRETCH
    variable = torch.logit((call.weight / step - down - low) / (high - low)).requires_grad_()
    optimizer = torch.optim.Adam([variable], lr=LEARNING_RATE)
    random = torch.Generator().manual_seed(0)

    def error(up: Tensor, chosen: Tensor) -> Tensor:
        weight = (down + up).clamp(-HIGHEST_CODE, HIGHEST_CODE) * step
        return (call.convolve(x[chosen], weight) - y[chosen]).square().mean()

    with torch.no_grad():  # errors are counted in that of rounding to nearest
        unit = error((variable > 0).float(), torch.arange(min(len(x), BATCH_SIZE))).clamp_min(1e-30)
    for iteration in range(num_iterations):
        up = rounding_up(variable)
        loss = error(up, torch.randint(len(x), (BATCH_SIZE,), generator=random)) / unit
        progress = iteration / num_iterations
        if progress >= WARM_UP:
            first, last = STEEPNESS_RANGE
            steepness = first + (last - first) * (progress - WARM_UP) / (1 - WARM_UP)
            loss = loss + REGULARIZATION * (1 - (2 * up - 1).abs() ** steepness).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (down + (variable > 0)).clamp(-HIGHEST_CODE, HIGHEST_CODE)


def correct_biases(network: nn.Module, grids: Grids, faces: Tensor) -> nn.Module:
    """Subtracts from each bias the mean error of its channel, in a copy; convolutions without bias get one.

    The error of a convolution on degraded faces, uint8 [N, 3, R, R], is measured on the inputs that the quantized
    network gives it, against what it would make of them in float, so that errors from further up are not corrected
    twice.

    Source: arXiv 1906.04721 section 4.2, with measured instead of derived means.
    """
    errors: dict[str, Tensor] = {}

    def compare(name: str, call: ConvolutionCall) -> Tensor:
        if name not in grids:
            return call.compute()
        y = quantized_convolution(call, grids[name])
        error = (y - call.compute()).double().mean(dim=(2, 3)).sum(dim=0)
        errors[name] = errors.get(name, 0) + error
        return y

    restore_with(network, faces, compare)
    corrected = deepcopy(network)
    for name, error in errors.items():
        convolution = cast(nn.Conv2d, corrected.get_submodule(name))
        bias = error.new_zeros(()) if convolution.bias is None else convolution.bias
        convolution.bias = constant(bias - error / len(faces))
    return corrected
