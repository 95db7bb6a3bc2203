"""Linear and convolution layers with an equalised learning rate."""

import math

import torch
from torch import Tensor, nn

from models.operators.activation import leaky_relu_
from models.operators.convolution import convolve

GAIN = math.sqrt(2)


class EqualizedLinear(nn.Module):
    """Linear layer whose weight is scaled at run time to the variance of He initialisation.

    Args:
        bias_init: First value of every bias.
        learning_rate_multiplier: Factor on the speed at which weight and bias learn.
        activate: Append a leaky ReLU (slope 0.2) with gain √2.

    Source: Progressive GAN (arXiv 1710.10196) section 4.1; StyleGAN2 (arXiv 1912.04958).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias_init: float = 0.0,
        learning_rate_multiplier: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / learning_rate_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / learning_rate_multiplier))
        gain = GAIN if activate else 1.0
        self.weight_scale = gain * learning_rate_multiplier / math.sqrt(in_features)
        self.bias_scale = gain * learning_rate_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, in_features] to [N, out_features]."""
        # The gain stands before the leaky ReLU, which is positively homogeneous: one pass over memory less.
        x = torch.addmm(self.bias, x, self.weight.T, beta=self.bias_scale, alpha=self.weight_scale)
        return leaky_relu_(x) if self.activate else x


class EqualizedConvolution(nn.Module):
    """Convolution with an equalised learning rate; kernel size, stride and padding with zeros in pixels.

    Args:
        activate: Add a bias and append a leaky ReLU (slope 0.2) with gain √2; else neither, as in the residual branches
            of StyleGAN2.
        gain: Factor on the output.

    Source: Progressive GAN (arXiv 1710.10196) section 4.1; StyleGAN2 (arXiv 1912.04958).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        activate: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activate else None
        self.gain = gain * (GAIN if activate else 1.0)
        self.scale = self.gain / math.sqrt(in_channels * kernel_size**2)
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, out_channels, H', W']."""
        weight = self.weight * self.scale
        if self.bias is None:
            return convolve(x, weight, None, self.stride, self.padding)
        x = convolve(x, weight, self.bias * self.gain, self.stride, self.padding)
        return leaky_relu_(x)
