"""Low-pass filtering around up- and downsampling with StyleGAN2's kernel [1, 3, 3, 1]."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LINE = (1.0, 3.0, 3.0, 1.0)


class LowPass(nn.Module):
    """Depthwise FIR filter of C channels; padding with zeros, 0 to 3 pixels; gain is the sum of the kernel.

    Source: StyleGAN2 (arXiv 1912.04958) appendix B; outer product of [1, 3, 3, 1].
    """

    kernel: Tensor

    def __init__(self, channels: int, padding: int, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain).repeat(channels, 1, 1, 1), persistent=False)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, C, H + 2·padding - 3, W + 2·padding - 3]."""
        if torch.compiler.is_compiling():  # which makes gradients of its own, to be differentiated once
            return _filter(x, self.kernel, self.padding)
        filtered: Tensor = _Filtering.apply(x, self.kernel, self.padding)
        return filtered


class Downsample(nn.Module):
    """Halves height and width of C channels: FIR filter with sum 1, then every second pixel.

    Source: StyleGAN2 (arXiv 1912.04958), skip connections of the residual discriminator.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel().repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, C, H/2, W/2]; H and W even."""
        if torch.compiler.is_compiling():
            return _halve(x, self.kernel)
        halved: Tensor = _Halving.apply(x, self.kernel, 1.0)
        return halved


class Upsample(nn.Module):
    """Doubles height and width of C channels: zeros between the pixels, then the FIR filter with gain 4.

    Source: StyleGAN2 (arXiv 1912.04958), skip connections of the generator.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel().repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, C, 2H, 2W]."""
        if torch.compiler.is_compiling():
            return _double(x)
        doubled: Tensor = _Doubling.apply(x, self.kernel)
        return doubled


def fir_kernel(gain: float = 1.0) -> Tensor:
    """The separable kernel [1, 3, 3, 1] as [1, 1, 4, 4] with the given sum."""
    line = torch.tensor(_LINE)
    kernel = torch.outer(line, line)
    return (kernel * (gain / kernel.sum()))[None, None]


def _filter(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, kernel.to(x.dtype), None, 1, padding, groups=len(kernel))


def _halve(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel.to(x.dtype), None, 2, 1, groups=len(kernel))


def _double(x: Tensor) -> Tensor:
    """Zeros around the image make bilinear interpolation the filter with gain 4."""
    return F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")[:, :, 2:-2, 2:-2]


# The kernel is constant and its own mirror image, so each operator's gradient is another of these three. PyTorch's
# gradient of a gradient of a depthwise convolution has one for the kernel too, channel by channel: half the time of R1.


class _Filtering(torch.autograd.Function):
    """Depthwise convolution of stride 1 with [C, 1, 4, 4]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, padding: int) -> Tensor:
        ctx.kernel, ctx.padding = kernel, padding
        return _filter(x, kernel, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Filtering.apply(gradients[0], ctx.kernel, len(_LINE) - 1 - ctx.padding), None, None


class _Halving(torch.autograd.Function):
    """Depthwise convolution of stride 2 and padding 1 with [C, 1, 4, 4], times a gain."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, gain: float) -> Tensor:
        ctx.kernel, ctx.gain = kernel, gain
        return _halve(x, kernel * gain)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled where it is small: before it is doubled.
        return _Doubling.apply(gradients[0] * (ctx.gain / 4), ctx.kernel), None, None


class _Doubling(torch.autograd.Function):
    """The transpose of `_Halving` with gain 4."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.kernel = kernel
        return _double(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Halving.apply(gradients[0], ctx.kernel, 4.0), None
