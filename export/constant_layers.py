"""PyTorch's own layers around given constants: what quantizers and compilers recognise."""

from itertools import product
from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def constant(value: Tensor) -> nn.Parameter:
    """A float32 copy that is stored with the module and never trained."""
    return nn.Parameter(value.detach().to(torch.float32, copy=True).contiguous(), requires_grad=False)


def convolution(weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """Convolution of [N, in, H, W] with the weight [out, in, K, K] and the bias [out]; stride and padding in pixels."""
    out_channels, in_channels, kernel_size = weight.shape[:3]
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False, device="meta")
    return _filled(layer, weight, bias)


def low_pass(kernel: Tensor, padding: int) -> nn.Conv2d:
    """Depthwise filtering of [N, C, H, W] with the kernel [C, 1, K, K]; padding in pixels."""
    channels, _, kernel_size = kernel.shape[:3]
    layer = nn.Conv2d(channels, channels, kernel_size, 1, padding, groups=channels, bias=False, device="meta")
    return _filled(layer, kernel, None)


def transposed_convolution(weight: Tensor, padding: int = 0) -> nn.ConvTranspose2d:
    """Transposed convolution of stride 2 of [N, in, H, W] with the weight [in, out, K, K], padding in pixels."""
    in_channels, out_channels, kernel_size = weight.shape[:3]
    layer = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, 2, padding, bias=False, device="meta")
    return _filled(layer, weight, None)


def sub_pixel_convolution(weight: Tensor, padding: int = 0) -> nn.Conv2d:
    """The ordinary convolution that, followed by PixelShuffle(2), equals `transposed_convolution` of an even kernel.

    Output pixel 2j + a of a transposed convolution of stride 2 reads input pixel i through tap 2(j - i) + a + padding,
    so that each of the four phases is a convolution of its own; they become output channels 4o + 2·a_y + a_x.

    Args:
        weight: [in, out, K, K], K even.
        padding: Of the transposed convolution, in pixels.
    """
    in_channels, out_channels, taps = weight.shape[:3]
    offsets = [i for i in range(-taps, taps) if any(0 <= a + padding - 2 * i < taps for a in (0, 1))]  # i - j
    phases = weight.new_zeros(out_channels, 2, 2, in_channels, len(offsets), len(offsets))
    by_output = weight.transpose(0, 1)
    for a_y, a_x in product((0, 1), repeat=2):
        for (row, i_y), (column, i_x) in product(enumerate(offsets), repeat=2):
            tap_y, tap_x = a_y + padding - 2 * i_y, a_x + padding - 2 * i_x
            if 0 <= tap_y < taps and 0 <= tap_x < taps:
                phases[:, a_y, a_x, :, row, column] = by_output[:, :, tap_y, tap_x]
    return convolution(phases.reshape(4 * out_channels, in_channels, len(offsets), -1), padding=-offsets[0])


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Linear layer of [N, in] with the weight [out, in] and the bias [out]."""
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta"), weight, bias)


def _filled(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    """Replaces the empty tensors of a layer."""
    layer.weight = constant(weight)
    if bias is not None:
        layer.bias = constant(bias)
    return layer
