"""Intercepted convolutions: what is told of them, and that computing them again changes nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import GPEN, Architecture
from models.quantization import ConvolutionCall, ConvolutionCalls, along

LAYERS = [
    (nn.Conv2d(4, 6, 3, 2, 1), (0, 1)),
    (nn.Conv2d(4, 4, 4, 1, 2, groups=4, bias=False), (0, None)),
    (nn.ConvTranspose2d(4, 6, 3, 2), (1, 0)),
    (nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4, bias=False), (0, None)),
]


@pytest.mark.parametrize(("layer", "dims"), LAYERS)
def test_a_call_is_computed_as_the_layer_does_and_knows_its_channels(
    layer: nn.Conv2d | nn.ConvTranspose2d, dims: tuple[int, int | None]
) -> None:
    x = torch.randn(2, 4, 7, 7)
    calls: list[ConvolutionCall] = []

    def compute(call: ConvolutionCall) -> Tensor:
        calls.append(call)
        return call.compute()

    with torch.no_grad():
        with ConvolutionCalls(compute) as context:
            y = layer(x)
        torch.testing.assert_close(y, layer(x), rtol=0, atol=1e-6)
    assert context.count == len(calls) == 1
    assert calls[0].weight is layer.weight
    assert (calls[0].out_dim, calls[0].in_dim) == dims


def test_calls_are_numbered_and_may_be_replaced_one_by_one() -> None:
    x = torch.ones(1, 1, 2, 2)
    weight = torch.full((1, 1, 1, 1), 3.0)
    with ConvolutionCalls(lambda call: call.compute() + call.index):
        y = F.conv2d(F.conv2d(F.conv2d(x, weight), weight, bias=torch.ones(1)), weight)
    assert y.flatten().tolist() == [((3 * 3 + 1 + 1) * 3) + 2] * 4


def test_a_trained_network_calls_every_convolution_once() -> None:
    generator = GPEN(Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2)).eval()
    with torch.no_grad(), ConvolutionCalls(ConvolutionCall.compute) as context:
        generator(torch.zeros(1, 3, 32, 32))
    # 4 in the encoder with 3 filters; 4 plain, 3 upsampling with 3 filters. ToRGB is a matrix product.
    assert context.count == 7 + 4 + 6


def test_channels_can_be_laid_along_any_dimension() -> None:
    values = torch.arange(3.0)
    assert along(values, 1).shape == (1, 3, 1, 1)
    assert along(values, 0).shape == (3, 1, 1, 1)
