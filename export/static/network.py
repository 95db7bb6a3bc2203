"""The static form of GPEN: the same function with every weight a constant, as compilers and quantizers want it.

Training needs weights that are scaled at run time (equalised learning rate), energies that follow the weights
(demodulation) and a precision policy; a deployed network needs none of it. Here all scales and the gains √2 are folded
into constants, one linear layer computes the modulations of all layers, and nothing depends on a shape that is read at
run time. A trace of it is a straight line of convolutions, linear layers and elementwise operations.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import GPEN
from models.architecture import FedConvolutions
from models.gpen import Encoder
from models.layers import EPSILON, GAIN, EqualizedConvolution, EqualizedLinear, ModulatedConvolution, StyledLayer, ToRGB
from models.operators.activation import LEAKY_SLOPE
from models.operators.resampling import LowPass, fir_kernel
from models.prior import MappingNetwork, SynthesisBlock

Upsampling = Literal["transposed", "pixel_shuffle"]
"""Two forms of the same function: transposed convolution and FIR filter [1, 3, 3, 1], fewest FLOPs and the default; or
ordinary convolutions with PixelShuffle, every one of which a compiler counts and can leave out of int8."""


class StaticEncoder(nn.Module):
    """Constant form of `models.gpen.Encoder` without its linear layer."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.from_rgb = _equalized(encoder.from_rgb)
        self.low_passes = nn.ModuleList()
        self.convolutions = nn.ModuleList()
        for down in encoder.downs:
            filtering, strided = cast(tuple[LowPass, EqualizedConvolution], tuple(down.children()))
            self.low_passes.append(low_pass(filtering.kernel, padding=filtering.padding))
            self.convolutions.append(_equalized(strided))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps [N, 3, R, R] to the features [N, C, r, r] of every resolution r, from 4 pixels upwards."""
        features = [F.leaky_relu(self.from_rgb(image), LEAKY_SLOPE)]
        for filtering, strided in zip(self.low_passes, self.convolutions, strict=True):
            features.append(F.leaky_relu(strided(filtering(features[-1])), LEAKY_SLOPE))
        return features[::-1]


class StaticMapping(nn.Module):
    """Constant form of `models.prior.MappingNetwork`."""

    def __init__(self, mapping: MappingNetwork) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _equalized_linear(layer) for layer in cast(list[EqualizedLinear], list(mapping.layers))
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Maps latents [N, D] to styles [N, D]."""
        x = latent * torch.rsqrt(latent.square().mean(dim=1, keepdim=True) + EPSILON)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LEAKY_SLOPE)
        return x


class StaticLayer(nn.Module):
    """Constant form of `models.layers.StyledLayer`; zeros stand in for the encoder's feature unless it `is_fed`.

    leaky(√2·(conv(x·s, W)·d + strength·feature + bias)) with √2·d = rsqrt(s² · ΣW²/2 + ε/2): leaky ReLU is positively
    homogeneous, so that the gain moves inside and disappears in constants.
    """

    def __init__(self, layer: StyledLayer, upsampling: Upsampling = "transposed", is_fed: bool = True) -> None:
        super().__init__()
        modulated, channels = layer.convolution, layer.out_channels
        # What never changes: the scaled weight and, for the demodulation, the energy of each of its kernels.
        weight = modulated.weight.double() * modulated.scale
        energy = weight.square().sum(dim=(2, 3))  # [C, in_channels]
        half_epsilon = torch.full_like(energy[:, 0], EPSILON / GAIN**2)
        self.energy = linear(energy / GAIN**2, half_epsilon)
        self.convolution: nn.Module
        if modulated.low_pass is None:
            self.convolution = convolution(weight, padding=weight.shape[-1] // 2)
        else:
            self.convolution = _upsampling_convolution(weight, modulated.low_pass, upsampling)
        # Bias and noise strength with the gain of the activation behind them.
        bias = layer.bias.double() * GAIN
        self.bias = constant(bias[None, :channels, None, None])
        self.feature_bias = constant(bias[None, channels:, None, None]) if layer.noise_mode == "concat" else None
        self.feature_strength: nn.Parameter | None = None
        if layer.noise_strength is not None:
            self.feature_strength = constant(layer.noise_strength.double().reshape(1, 1, 1, 1) * GAIN * is_fed)
        self.in_channels, self.out_channels = energy.shape[1], channels

    def forward(self, x: Tensor, feature: Tensor, modulation: Tensor) -> Tensor:
        """Maps x [N, in_channels, H, W], or one for the whole batch, with the encoder's feature at this resolution, [N,
        C, H', W'], and the modulation s [N, in_channels] to [N, C or 2C, H', W']."""
        # Modulation and demodulation around one constant weight (StyleGAN2, equations 1 and 3).
        demodulation = torch.rsqrt(self.energy(modulation.square())).reshape(-1, self.out_channels, 1, 1)
        x = self.convolution(x * modulation.reshape(-1, self.in_channels, 1, 1))
        x = x * demodulation + self.bias
        # The encoder's feature in the place of noise, concatenated or added (GPEN, section 3.1).
        if self.feature_strength is not None:
            feature = feature * self.feature_strength
            x = x + feature if self.feature_bias is None else torch.cat([x, feature + self.feature_bias], dim=1)
        return F.leaky_relu(x, LEAKY_SLOPE)


class StaticToRGB(nn.Module):
    """Constant form of `models.layers.ToRGB` without the image it is added to."""

    def __init__(self, to_rgb: ToRGB) -> None:
        super().__init__()
        self.convolution = convolution(to_rgb.convolution.weight.double() * to_rgb.convolution.scale, to_rgb.bias)
        self.in_channels = self.convolution.in_channels

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Maps features [N, in_channels, H, W] and s [N, in_channels] to [N, 3, H, W]."""
        return self.convolution(x * modulation.reshape(-1, self.in_channels, 1, 1))


class StaticBlock(nn.Module):
    """One resolution above 4×4: an upsampling layer, a plain one, ToRGB and the upsampling of the image so far."""

    def __init__(self, block: SynthesisBlock, upsampling: Upsampling, fed: FedConvolutions = "both") -> None:
        super().__init__()
        if block.up is None:
            raise ValueError("the block of the lowest resolution has no upsampling layer; build its layers one by one")
        self.up = StaticLayer(block.up, upsampling, fed in ("both", "first"))
        self.plain = StaticLayer(block.plain, is_fed=fed in ("both", "second"))
        self.to_rgb = StaticToRGB(block.to_rgb)
        # Three channels without groups: grouped transposed convolutions are what compilers support least.
        kernel = (torch.eye(3)[:, :, None, None] * fir_kernel(gain=4.0)).to(block.to_rgb.bias.device)  # [3, 3, 4, 4]
        self.image_upsampling: nn.Module = transposed_convolution(kernel, padding=1)
        if upsampling == "pixel_shuffle":
            self.image_upsampling = _pixel_shuffle(sub_pixel_convolution(kernel, padding=1))

    def forward(
        self, x: Tensor, image: Tensor, feature: Tensor, modulations: Iterator[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Maps features and image of half the resolution to those of this one."""
        # The image first: compilers number convolutions by walking back from the output, and so both orders are one.
        image = self.image_upsampling(image)
        x = self.up(x, feature, next(modulations))
        x = self.plain(x, feature, next(modulations))
        return x, image + self.to_rgb(x, next(modulations))


class StaticGPEN(nn.Module):
    """Constant form of `models.GPEN`, equal to its evaluation within 1e-5 on faces in [-1, 1].

    The trained network, on any device, is copied. Raises ValueError where the encoder begins below the full resolution.
    """

    def __init__(self, generator: GPEN, upsampling: Upsampling = "transposed") -> None:
        super().__init__()
        lowest = generator.architecture.encoder_resolution
        if lowest is not None:
            raise ValueError(
                f"the encoder must begin at {generator.architecture.resolution} pixels to be exported, it begins at "
                f"{lowest} (FullGenerator_SR); fine-tune its prior as an ordinary GPEN and export that"
            )
        synthesis = generator.decoder.synthesis
        first, *others = cast(list[SynthesisBlock], list(synthesis.blocks))
        self.encoder = StaticEncoder(generator.encoder)
        self.to_latent = _equalized_linear(generator.encoder.to_latent)
        self.mapping = StaticMapping(generator.decoder.mapping)
        self.constant = constant(synthesis.constant)
        self.first_layer = StaticLayer(first.plain)
        self.first_to_rgb = StaticToRGB(first.to_rgb)
        fed = generator.architecture.fed_convolutions
        self.blocks = nn.ModuleList(StaticBlock(block, upsampling, fed) for block in others)
        modulated = [first.plain.convolution, first.to_rgb.convolution]
        layers = [layer for block in others for layer in (block.up, block.plain, block.to_rgb) if layer is not None]
        modulated += [layer.convolution for layer in layers]
        self.modulation = _joint_modulation(modulated)
        self.modulation_widths = [layer.modulation.weight.shape[0] for layer in modulated]
        self.architecture, self.upsampling = generator.architecture, upsampling
        self.eval()

    def forward(self, input: Tensor) -> Tensor:
        """Restores degraded faces [N, 3, R, R] in [-1, 1] to about [-1, 1], not clipped; the argument's name becomes
        that of the artefacts' input."""
        # Encoder: features of every resolution, the lowest one as a latent (GPEN, figure 2).
        lowest, *features = self.encoder(input)
        # Mapping network, and the modulations of all layers at once: w to every s (StyleGAN2, figure 2).
        style = self.mapping(F.leaky_relu(self.to_latent(lowest.flatten(1)), LEAKY_SLOPE))
        modulations = iter(self.modulation(style).split(self.modulation_widths, dim=1))
        # Synthesis from 4×4 upwards: each resolution draws features and adds its image to the one so far (figure 7b).
        # The constant takes the size of the batch from its modulation: no expansion, no shape that is read at run time.
        x = self.first_layer(self.constant, lowest, next(modulations))
        image = self.first_to_rgb(x, next(modulations))
        for block, feature in zip(self.blocks, features, strict=True):
            x, image = block(x, image, feature, modulations)
        return image


def _joint_modulation(layers: Sequence[ModulatedConvolution]) -> nn.Linear:
    affine = [layer.modulation for layer in layers]
    weight = torch.cat([layer.weight.double() * layer.weight_scale for layer in affine])
    return linear(weight, torch.cat([layer.bias.double() * layer.bias_scale for layer in affine]))


def _upsampling_convolution(weight: Tensor, filtering: LowPass, upsampling: Upsampling) -> nn.Sequential:
    """Doubles height and width with a weight [out, in, 3, 3], then filters.

    For PixelShuffle the FIR filter [1, 3, 3, 1] = [1, 1] * [1, 2, 1] is divided: its first factor makes the kernel 4×4,
    so that each phase has 2×2 taps and none is zero, its second is all that remains to be filtered.
    """
    transposed = weight.transpose(0, 1)
    if upsampling == "transposed":
        filters = low_pass(filtering.kernel, filtering.padding)
        return nn.Sequential(OrderedDict(transposed=transposed_convolution(transposed), low_pass=filters))
    doubled = sum(F.pad(transposed, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1))
    line = filtering.kernel.new_tensor([1, 2, 1])
    kernel = torch.outer(line, line) * (filtering.kernel[0].sum() / 64)
    layers = _pixel_shuffle(sub_pixel_convolution(cast(Tensor, doubled)))
    layers.add_module("low_pass", low_pass(kernel.expand(weight.shape[0], 1, 3, 3), padding=0))
    return layers


def _pixel_shuffle(sub_pixel: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(OrderedDict(sub_pixel=sub_pixel, shuffle=nn.PixelShuffle(2)))


def _equalized(layer: EqualizedConvolution) -> nn.Conv2d:
    """A convolution of the encoder with its learning-rate scale and the gain of its activation folded in."""
    if layer.bias is None:
        raise ValueError("a convolution of the encoder has a bias and an activation, got one without")
    return convolution(layer.weight.double() * layer.scale, layer.bias.double() * GAIN, layer.stride, layer.padding)


def _equalized_linear(layer: EqualizedLinear) -> nn.Linear:
    """A linear layer with its learning-rate scale and the gain of its activation folded in."""
    return linear(layer.weight.double() * layer.weight_scale, layer.bias.double() * layer.bias_scale)


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

    Output pixel 2j + a of a transposed convolution of stride 2 with weight [in, out, K, K] reads input pixel i through
    tap 2(j - i) + a + padding, so that each of the four phases is a convolution of its own; they become output channels
    4o + 2·a_y + a_x.
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
    layer.weight = constant(weight)
    if bias is not None:
        layer.bias = constant(bias)
    return layer
