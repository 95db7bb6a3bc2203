"""PyTorch's own layers around given constants: what quantizers and compilers recognise."""

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


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Linear layer of [N, in] with the weight [out, in] and the bias [out]."""
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta"), weight, bias)


def _filled(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    """Replaces the empty tensors of a layer."""
    layer.weight = constant(weight)
    if bias is not None:
        layer.bias = constant(bias)
    return layer
