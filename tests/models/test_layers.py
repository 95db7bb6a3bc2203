"""The layers of the synthesis network against the textbook's: values, gradients, gradients of gradients."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.func import functional_call

from benchmarks import textbook
from models import NoiseMode
from models.layers import EqualizedConvolution, EqualizedLinear, ModulatedConvolution, StyledLayer, ToRGB
from models.operators.resampling import Downsample, LowPass, Upsample

Layer = Callable[..., Tensor]
MODULATED = [
    (3, False, True),
    (3, True, True),
    (3, False, False),
    (3, True, False),
    (1, False, True),
    (1, False, False),
]
NOISE_CHANNELS: dict[NoiseMode, int | None] = {"concat": 3, "add": 1, "none": None}


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def assert_equal_to_second_order(fast: Layer, slow: Layer, inputs: Sequence[Tensor], parameters: Sequence[Tensor]):
    """Values; gradients of a random projection; gradients of the squared norm of those to the inputs."""
    variables = [*inputs, *parameters]
    outcomes = []
    direction = torch.randn_like(slow(*inputs))
    for layer in (fast, slow):
        out = layer(*inputs)
        first = grad((out.tanh() * direction).sum(), variables, create_graph=True)
        penalty = sum((g.square().sum() for g in first[: len(inputs)]), out.new_zeros(()))
        second = grad(penalty, variables, allow_unused=True, materialize_grads=True)
        outcomes.append([tensor.detach() for tensor in (out, *first, *second)])
    for ours, theirs in zip(*outcomes, strict=True):
        assert float(theirs.abs().max()) > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("kernel_size", "upsample", "demodulate"), MODULATED)
def test_modulated_convolution_equals_the_textbook_to_second_order(
    awaken: Callable[[nn.Module], nn.Module], kernel_size: int, upsample: bool, demodulate: bool
) -> None:
    layer = awaken(ModulatedConvolution(4, 3, kernel_size, 5, upsample, demodulate)).double()
    parameters = dict(layer.named_parameters())

    def slow(x: Tensor, style: Tensor) -> Tensor:
        return textbook.modulated_convolution(x, style, parameters, upsample, demodulate)

    inputs = draw(3, 4, 6, 5), draw(3, 5)
    assert_equal_to_second_order(layer, slow, inputs, list(parameters.values()))


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("noise_mode", NOISE_CHANNELS)
def test_styled_layer_equals_the_textbook_to_second_order(
    awaken: Callable[[nn.Module], nn.Module], noise_mode: NoiseMode, upsample: bool
) -> None:
    layer = awaken(StyledLayer(4, 3, 5, noise_mode, upsample)).double()
    parameters = dict(layer.named_parameters())
    size, noise_channels = 10 if upsample else 5, NOISE_CHANNELS[noise_mode]
    inputs = [draw(2, 4, 5, 5), draw(2, 5)]
    inputs += [] if noise_channels is None else [draw(2, noise_channels, size, size)]

    def fast(x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        return layer(x, style, noise)

    def slow(x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        return textbook.styled_layer(x, style, noise, parameters, noise_mode, upsample)

    assert_equal_to_second_order(fast, slow, inputs, list(parameters.values()))


@pytest.mark.parametrize("on_image", [True, False])
def test_to_rgb_equals_the_textbook_to_second_order(
    awaken: Callable[[nn.Module], nn.Module], in_float64: None, on_image: bool
) -> None:
    layer = awaken(ToRGB(4, 5, upsample=on_image)).double()
    parameters = dict(layer.named_parameters())
    inputs = [draw(2, 4, 6, 6), draw(2, 5)]
    inputs += [draw(2, 3, 3, 3)] if on_image else []

    def fast(x: Tensor, style: Tensor, image: Tensor | None = None) -> Tensor:
        return layer(x, style, image)

    def slow(x: Tensor, style: Tensor, image: Tensor | None = None) -> Tensor:
        return textbook.to_rgb(x, style, image, parameters)

    assert_equal_to_second_order(fast, slow, inputs, list(parameters.values()))


@pytest.mark.parametrize(("padding", "gain"), [(1, 1.0), (2, 1.0), (2, 4.0)])
def test_low_pass_equals_the_dense_filter_to_second_order(padding: int, gain: float) -> None:
    layer = LowPass(3, padding, gain).double()

    def slow(x: Tensor) -> Tensor:
        return textbook.upfirdn(x, gain * textbook.fir_kernel(x), padding=(padding, padding))

    assert_equal_to_second_order(layer, slow, [draw(2, 3, 8, 6)], [])


def test_downsampling_equals_every_second_pixel_of_the_dense_filter_to_second_order() -> None:
    def slow(x: Tensor) -> Tensor:
        return textbook.upfirdn(x, textbook.fir_kernel(x), down=2, padding=(1, 1))

    assert_equal_to_second_order(Downsample(3).double(), slow, [draw(2, 3, 8, 6)], [])


def test_upsampling_equals_zeros_between_pixels_and_the_dense_filter_to_second_order() -> None:
    def slow(x: Tensor) -> Tensor:
        return textbook.upfirdn(x, 4 * textbook.fir_kernel(x), up=2, padding=(2, 1))

    assert_equal_to_second_order(Upsample(3).double(), slow, [draw(2, 3, 5, 4)], [])


def test_resampling_keeps_a_constant_image_away_from_its_borders() -> None:
    ones = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(Upsample(2)(ones)[:, :, 1:-1, 1:-1], torch.ones(1, 2, 14, 14))
    torch.testing.assert_close(Downsample(2)(ones)[:, :, 1:-1, 1:-1], torch.ones(1, 2, 2, 2))


LAYERS_AND_SHAPES: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "modulated convolution": (lambda: ModulatedConvolution(2, 2, 3, 3), ((2, 2, 3, 3), (2, 3))),
    "upsampling modulated convolution": (lambda: ModulatedConvolution(2, 2, 3, 3, True), ((2, 2, 2, 2), (2, 3))),
    "modulated 1×1 convolution without demodulation": (
        lambda: ModulatedConvolution(2, 3, 1, 3, demodulate=False),
        ((2, 2, 3, 3), (2, 3)),
    ),
    "low pass": (lambda: LowPass(2, padding=2), ((2, 2, 4, 3),)),
    "downsample": (lambda: Downsample(2), ((2, 2, 4, 4),)),
    "upsample": (lambda: Upsample(2), ((2, 2, 3, 2),)),
    "equalized convolution": (lambda: EqualizedConvolution(2, 2, 3, padding=1), ((2, 2, 3, 3),)),
    "strided convolution without activation": (
        lambda: EqualizedConvolution(2, 2, 3, stride=2, activate=False),
        ((2, 2, 5, 5),),
    ),
    "equalized linear": (lambda: EqualizedLinear(3, 2, 0.5, 0.1), ((2, 3),)),
    "activated equalized linear": (lambda: EqualizedLinear(3, 4, activate=True), ((2, 3),)),
}


@pytest.mark.parametrize("name", LAYERS_AND_SHAPES)
def test_gradients_and_second_gradients_equal_numerical_ones(
    awaken: Callable[[nn.Module], nn.Module], name: str
) -> None:
    make, shapes = LAYERS_AND_SHAPES[name]
    layer = awaken(make()).double()
    names = [n for n, _ in layer.named_parameters()]

    def apply(*tensors: Tensor) -> Tensor:
        inputs, parameters = tensors[: len(shapes)], tensors[len(shapes) :]
        return functional_call(layer, dict(zip(names, parameters, strict=True)), inputs)

    variables = (*(draw(*shape) for shape in shapes), *layer.parameters())
    assert gradcheck(apply, variables)
    assert gradgradcheck(apply, variables)


@pytest.mark.parametrize("upsample", [False, True])
def test_demodulation_makes_the_scale_of_the_modulation_irrelevant(upsample: bool) -> None:
    layer = ModulatedConvolution(4, 3, 3, 5, upsample)
    x, style = torch.randn(2, 4, 6, 6), torch.randn(2, 5)
    with torch.no_grad():
        before = layer(x, style)
        layer.modulation.weight.mul_(7)
        layer.modulation.bias.mul_(7)
        after = layer(x, style)
    assert float(before.abs().max()) > 0.5
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_demodulated_outputs_have_unit_variance_for_inputs_of_unit_variance() -> None:
    layer = ModulatedConvolution(16, 8, 3, 5)
    with torch.no_grad():
        out = layer(torch.randn(4, 16, 66, 66), 2 * torch.randn(4, 5))[:, :, 1:-1, 1:-1]
    # 4096 pixels of each of the 32 images and channels: standard error of a variance about 3 %, more as they correlate.
    assert out.var(dim=(2, 3)).sub(1).abs().max() < 0.25
    assert float(out.var()) == pytest.approx(1, abs=0.03)


def test_coefficients_are_computed_in_float32_under_autocast() -> None:
    layer = ModulatedConvolution(4, 3, 3, 5)
    style = torch.randn(2, 5)
    expected = layer.coefficients(style)
    with torch.autocast("cpu", torch.bfloat16):
        modulation, demodulation = layer.coefficients(style)
        out = layer(torch.randn(2, 4, 6, 6), style)
    assert torch.equal(modulation, expected[0])
    assert demodulation is not None and expected[1] is not None and torch.equal(demodulation, expected[1])
    assert out.dtype == torch.bfloat16


def test_the_image_stays_in_float32_under_autocast() -> None:
    layer = ToRGB(4, 5)
    image = torch.rand(2, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.zeros(2, 4, 6, 6), torch.randn(2, 5), image)
    assert out.dtype == torch.float32
    assert torch.equal(out, Upsample(3)(image))
