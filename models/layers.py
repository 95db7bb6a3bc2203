"""Layers of the networks: equalised learning rates, and convolutions whose input channels are scaled by a style."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import NoiseMode
from models.operators.activation import leaky_relu_, modulated_activation
from models.operators.convolution import convolve, without_autocast
from models.operators.resampling import LowPass, Upsample

GAIN = math.sqrt(2)
EPSILON = 1e-8


class EqualizedLinear(nn.Module):
    """Linear layer whose weight is scaled at run time to the variance of He initialisation.

    All biases begin at `bias_init`, the multiplier is on the speed at which weight and bias learn, and `activate`
    appends a leaky ReLU (slope 0.2) with gain √2.

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

    `activate` adds a bias and appends a leaky ReLU (slope 0.2) with gain √2; else there is neither, as in the residual
    branches of StyleGAN2. The gain is a further factor on the output.

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


class ModulatedConvolution(nn.Module):
    """Modulated and demodulated convolution, computed by scaling the activations around one shared weight.

    conv(x, W·s) · d = conv(x·s, W) · d, with s the modulation of each input channel and d = rsqrt(s² · ΣW² + ε) the
    demodulation of each output channel, which normalises its variance: no weights per sample, no grouped convolution.
    The kernel size is odd; `upsample` doubles height and width (transposed convolution, then FIR filter).

    Source: StyleGAN2 (arXiv 1912.04958) equations 1 and 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_dim: int,
        upsample: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.modulation = EqualizedLinear(style_dim, in_channels, bias_init=1.0)
        self.low_pass = LowPass(out_channels, padding=1, gain=4.0) if upsample else None
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.demodulate = demodulate

    def coefficients(self, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """Modulation [N, in_channels] and demodulation [N, out_channels] (None without) of a style [N, D], float32."""
        # Half precision would turn epsilon into 0, and the scale belongs to the few styles, not to the many weights.
        with without_autocast(style.device):
            modulation = self.modulation(style) * self.scale
            if not self.demodulate:
                return modulation, None
            energy = self.weight.square().sum(dim=(2, 3))
            return modulation, torch.rsqrt(F.linear(modulation.square(), energy) + EPSILON)

    def convolve(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Everything but the demodulation: [N, in_channels, H, W] to [N, out_channels, H', W']."""
        x = x * modulation.to(x.dtype)[:, :, None, None]
        if self.low_pass is None:
            return convolve(x, self.weight, padding=self.weight.shape[-1] // 2)
        x = convolve(x, self.weight.transpose(0, 1), stride=2, transposed=True)  # [N, C, 2H+1, 2W+1]
        return self.low_pass(x)  # [N, C, 2H, 2W]

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Maps x [N, in_channels, H, W] and style [N, D] to [N, out_channels, H', W']."""
        modulation, demodulation = self.coefficients(style)
        x = self.convolve(x, modulation)
        return x if demodulation is None else x * demodulation.to(x.dtype)[:, :, None, None]


class StyledLayer(nn.Module):
    """Modulated 3×3 convolution to C channels, noise injection, bias and leaky ReLU (slope 0.2, gain √2).

    Noise mode `concat` appends the noise to the channels (2C), `add` adds it, `none` takes none.

    Source: GPEN (arXiv 2105.06070) section 3.1; one noise strength per layer, initially 0, as in StyleGAN2.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, noise_mode: NoiseMode, upsample: bool = False
    ) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(in_channels, out_channels, 3, style_dim, upsample)
        self.noise_strength = None if noise_mode == "none" else nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(out_channels * (2 if noise_mode == "concat" else 1)))
        self.noise_mode = noise_mode
        self.out_channels = out_channels

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """Maps x [N, in_channels, H, W] and style [N, D] to [N, C or 2C, H', W']; noise [N, C or 1, H', W'] (`concat`
        needs C channels) is None for mode `none` only."""
        modulation, demodulation = self.convolution.coefficients(style)
        assert demodulation is not None  # for the type checker: styled layers always demodulate
        x = self.convolution.convolve(x, modulation)
        # The gain √2 is folded into demodulation, noise strength and bias: leaky ReLU is positively homogeneous.
        demodulation = (demodulation * GAIN).to(x.dtype)[:, :, None, None]
        bias = (self.bias * GAIN).to(x.dtype)
        if self.noise_strength is None or noise is None:
            return leaky_relu_(torch.addcmul(bias[:, None, None], x, demodulation))
        noise, strength = noise.to(x.dtype), (self.noise_strength * GAIN).to(x.dtype)
        if self.noise_mode == "concat":
            return modulated_activation(x, demodulation, noise, strength, bias)
        return leaky_relu_(torch.addcmul(torch.addcmul(bias[:, None, None], x, demodulation), noise, strength))


class ToRGB(nn.Module):
    """Modulated 1×1 convolution to RGB without demodulation, added to the upsampled image so far.

    Source: StyleGAN2 (arXiv 1912.04958) figure 7b.
    """

    def __init__(self, in_channels: int, style_dim: int, upsample: bool = True) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(in_channels, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.upsample = Upsample(3) if upsample else None

    def forward(self, x: Tensor, style: Tensor, image: Tensor | None) -> Tensor:
        """Maps features [N, in_channels, H, W], style [N, D] and image [N, 3, H/2, W/2] to [N, 3, H, W], float32."""
        rgb = self._project(x, style).float() + self.bias[:, None, None]
        if self.upsample is None or image is None:
            return rgb
        with without_autocast(image.device):
            return rgb + self.upsample(image)

    def _project(self, x: Tensor, style: Tensor) -> Tensor:
        """The modulated 1×1 convolution: with three outputs it is cheaper to scale the weights than the activations."""
        modulation, _ = self.convolution.coefficients(style)
        weights = self.convolution.weight[:, :, 0, 0] * modulation[:, None, :]  # [N, 3, C]
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # [N, H·W, C]
        rgb: Tensor = _Projection.apply(pixels, weights.to(x.dtype))
        return rgb.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)  # [N, 3, H, W]


class _Projection(torch.autograd.Function):
    """[N, P, C] and [N, 3, C] to [N, P, 3]."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(pixels, weights)
        return pixels @ weights.mT

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        pixels, weights = ctx.saved_tensors
        # PyTorch multiplies the other way round and transposes: four times slower with as many rows as pixels.
        return gradients[0] @ weights, gradients[0].mT @ pixels
