"""8-bit arithmetic against closed forms and an integer reference in NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.quantization import (
    ConvolutionCall,
    ConvolutionCalls,
    ConvolutionGrid,
    bias_codes,
    codes,
    power_of_two_step,
    quantized_convolution,
    weight_steps,
)


def captured(layer: nn.Module, x: Tensor) -> ConvolutionCall:
    """The call that a layer makes."""
    calls: list[ConvolutionCall] = []

    def keep(call: ConvolutionCall) -> Tensor:
        calls.append(call)
        return call.compute()

    with ConvolutionCalls(keep):
        layer(x)
    return calls[0]


def rounded(values: np.ndarray, step: np.ndarray, lowest: int = -127, highest: int = 127) -> np.ndarray:
    return np.clip(np.rint(values / step), lowest, highest).astype(np.int32)


def integer_convolution(x: np.ndarray, weight: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Loops over output pixels with int32 accumulators; x [N, C, H, W] and weight [out, C, K, K] are int32."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[-1]
    height, width = ((x.shape[d] - size) // stride + 1 for d in (2, 3))
    y = np.zeros((len(x), len(weight), height, width), np.int32)
    for row in range(height):
        for column in range(width):
            top, left = row * stride, column * stride
            patch = x[:, :, top : top + size, left : left + size]
            y[:, :, row, column] = np.einsum("nckl,ockl->no", patch, weight, dtype=np.int32)
    return y


@pytest.mark.parametrize(
    ("largest", "step"),
    [(1.0, 1.0), (0.5, 0.5), (0.5001, 1.0), (3.0, 4.0), (0.24, 0.25), (0.25, 0.25), (0.0, 1.0), (1e-6, 2.0**-19)],
)
def test_power_of_two_steps_have_their_closed_form(largest: float, step: float) -> None:
    assert float(power_of_two_step(torch.tensor(largest))) == step / 128


def test_weight_steps_belong_to_output_channels() -> None:
    weight = torch.zeros(2, 3, 1, 1)
    weight[0, 1], weight[1, 2] = -0.3, 5.0
    assert weight_steps(weight, 0).tolist() == [0.5 / 128, 8 / 128]
    assert weight_steps(weight, 1).tolist() == [1 / 128, 0.5 / 128, 8 / 128]


def test_codes_are_rounded_half_to_even_and_clipped() -> None:
    x = torch.tensor([-200.0, -127.6, -2.5, -1.5, 0.5, 1.5, 2.4, 127.4, 400.0])
    assert codes(2 * x, torch.tensor(2.0)).tolist() == [-127, -127, -2, -2, 0, 2, 2, 127, 127]
    assert codes(x, torch.tensor(1.0), (-128, 127)).tolist() == [-128, -128, -2, -2, 0, 2, 2, 127, 127]


def test_bias_codes_have_32_bits() -> None:
    assert bias_codes(torch.tensor([0.3, -0.26], dtype=torch.float64), torch.tensor(0.1)).tolist() == [3, -3]
    highest = bias_codes(torch.tensor([1e30], dtype=torch.float64), torch.tensor(1e-3, dtype=torch.float64))
    assert highest.tolist() == [2**31 - 1]


@pytest.mark.parametrize("rounds_output", [False, True])
def test_a_convolution_equals_integer_arithmetic_with_32_bit_accumulators(rounds_output: bool) -> None:
    layer = nn.Conv2d(5, 4, 3, stride=2, padding=1)
    x = 3 * torch.randn(2, 5, 9, 9)
    weight_step = weight_steps(layer.weight, 0)
    output_step = torch.tensor(0.05) if rounds_output else None
    input_codes, output_codes = ((-51, 204), (-130, 125)) if rounds_output else ((-127, 127), (-127, 127))
    grid = ConvolutionGrid(torch.tensor(4 / 128), weight_step, output_step, input_codes, output_codes)
    with torch.no_grad():
        simulated = quantized_convolution(captured(layer, x), grid).numpy()
    weight = rounded(layer.weight.detach().numpy(), weight_step.numpy()[:, None, None, None])
    step = weight_step.numpy() * np.float32(4 / 128)
    bias = np.rint(layer.bias.detach().numpy() / step).astype(np.int32)
    accumulators = integer_convolution(rounded(x.numpy(), np.float32(4 / 128), *input_codes), weight, 2, 1)
    expected = (accumulators + bias[None, :, None, None]) * step[None, :, None, None]
    if rounds_output:
        expected = rounded(expected, np.float32(0.05), *output_codes) * np.float32(0.05)
    assert np.abs(expected).max() > 1
    np.testing.assert_array_equal(simulated, expected.astype(np.float32))


def test_a_transposed_convolution_takes_its_steps_along_the_second_dimension() -> None:
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, bias=False)
    x = torch.randn(1, 2, 4, 4)
    call = captured(layer, x)
    assert (call.out_dim, call.in_dim) == (1, 0)
    step = weight_steps(layer.weight, 1)
    with torch.no_grad():
        y = quantized_convolution(call, ConvolutionGrid(torch.tensor(1 / 32), step))
        weight = (layer.weight / step[None, :, None, None]).round().clamp(-127, 127) * step[None, :, None, None]
        x = (x * 32).round().clamp(-127, 127) / 32
        torch.testing.assert_close(y, F.conv_transpose2d(x, weight, stride=2), rtol=0, atol=1e-6)


def test_gradients_pass_straight_through_inside_the_range_and_not_outside() -> None:
    x = torch.tensor([-70.0, -3.3, 0.2, 40.0, 64.1], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    (codes(x, torch.tensor(0.5)) * 0.5 * weights).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 0]  # -70 and 64.1 lie beyond 127 * 0.5


def test_the_gradient_of_a_quantized_convolution_is_that_of_the_rounded_operands() -> None:
    layer = nn.Conv2d(3, 2, 3, padding=1)
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    grid = ConvolutionGrid(torch.tensor(8 / 128), weight_steps(layer.weight, 0))  # nothing is clipped
    with ConvolutionCalls(lambda call: quantized_convolution(call, grid)):
        y = layer(x)
    direction = torch.randn_like(y)
    measured = torch.autograd.grad(y, [x, layer.weight, layer.bias], direction)
    weight_step = grid.weight_step[:, None, None, None]
    operands = [
        (codes(x, grid.input_step) * grid.input_step).detach().requires_grad_(),
        (codes(layer.weight, weight_step) * weight_step).detach().requires_grad_(),
        layer.bias.detach().clone().requires_grad_(),
    ]
    expected = torch.autograd.grad(F.conv2d(*operands, padding=1), operands, direction)
    for one, other in zip(measured, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
