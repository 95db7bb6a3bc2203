"""Low-pass filtering around up- and downsampling with StyleGAN2's kernel [1, 3, 3, 1]."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowPass(nn.Module):
    """Depthwise FIR filter, alone or before a stride.

    Args:
        channels: C.
        padding: Zeros around the input, in pixels.
        stride: Keep every stride-th output, in pixels.
        gain: Factor on the kernel, whose sum is 1 otherwise.

    Source: StyleGAN2 (arXiv 1912.04958) appendix B; outer product of [1, 3, 3, 1].
    """

    kernel: Tensor

    def __init__(self, channels: int, padding: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain).repeat(channels, 1, 1, 1), persistent=False)
        self.padding = padding
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, C, H', W'] with H' = (H + 2·padding - 4) // stride + 1."""
        return F.conv2d(x, self.kernel, None, self.stride, self.padding, groups=self.kernel.shape[0])


class Upsample(nn.Module):
    """Doubles height and width: zeros between the pixels, then the FIR filter with gain 4.

    Args:
        channels: C.

    Source: StyleGAN2 (arXiv 1912.04958), skip connections of the generator.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain=4.0).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, C, 2H, 2W]."""
        return F.conv_transpose2d(x, self.kernel, None, stride=2, padding=1, groups=self.kernel.shape[0])


def fir_kernel(gain: float = 1.0) -> Tensor:
    """The separable kernel [1, 3, 3, 1] as [1, 1, 4, 4] with the given sum."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(line, line)
    return (kernel * (gain / kernel.sum()))[None, None]
