"""Rescalings change no image; the chosen ones make every scaling of a network the same to the quantizer."""

import math

import pytest
import torch
from torch import Tensor

from data.ranges import model_to_uint8
from export.int8.equalization import (
    RescalingFactors,
    equalize,
    filling,
    main_convolution,
    modulated_layers,
    random_factors,
    rescale,
)
from export.int8.simulation import calibration_ranges, choose_grids, simulate
from export.static.network import StaticGPEN, StaticLayer, Upsampling
from models import GPEN, NoiseMode

KINDS = ("inputs", "outputs", "features", "encoder")


def decibels(images: Tensor, reference: Tensor) -> float:
    """PSNR for images in [-1, 1]."""
    return 10 * math.log10(4 / max(float((images - reference).double().square().mean()), 1e-20))


@pytest.mark.parametrize("upsampling", ["transposed", "pixel_shuffle"])
@pytest.mark.parametrize("mode", ["concat", "add", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_rescaling_keeps_the_function(
    generators: dict[NoiseMode, GPEN], images: Tensor, mode: NoiseMode, upsampling: Upsampling, kind: str
) -> None:
    network = StaticGPEN(generators[mode], upsampling)
    factors = RescalingFactors(**{kind: getattr(random_factors(network, 1.0), kind)})
    uneven = rescale(network, factors)
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(uneven(images), expected, rtol=0, atol=1e-5)
    changed = [n for n, p in uneven.named_parameters() if not torch.equal(p, network.get_parameter(n))]
    assert changed or (kind, mode) == ("features", "none")


def test_factors_reach_the_weights_they_name(generators: dict[NoiseMode, GPEN]) -> None:
    network = StaticGPEN(generators["concat"])
    twice, thrice = torch.full((64,), 2.0), torch.full((32,), 3.0)
    layer = network.blocks[0].plain
    assert (layer.in_channels, layer.out_channels) == (64, 32)
    uneven = rescale(network, RescalingFactors(inputs={"blocks.0.plain": twice}, outputs={"blocks.0.plain": thrice}))
    before, after = (dict(modulated_layers(n))["blocks.0.plain"] for n in (network, uneven))
    torch.testing.assert_close(main_convolution(after).weight, 6 * main_convolution(before).weight)
    # s is halved, so that s² needs four times the energy; d becomes a third: nine times.
    torch.testing.assert_close(after.energy.weight, 36 * before.energy.weight)
    torch.testing.assert_close(after.energy.bias, 9 * before.energy.bias)


def test_random_factors_are_log_normal(generators: dict[NoiseMode, GPEN]) -> None:
    factors = random_factors(StaticGPEN(generators["concat"]), 1.0)
    logarithms = torch.cat([f.log() for kind in KINDS for f in getattr(factors, kind).values()])
    assert abs(float(logarithms.mean())) < 0.1 and abs(float(logarithms.std()) - 1) < 0.05


def test_filling_takes_rows_to_powers_of_two_near_what_is_wanted() -> None:
    rows = torch.tensor([0.3, 1.0, 0.07, 2.5])
    wanted = torch.tensor([1.0, 5.0, 0.2, 1.0])
    factors = filling(rows, wanted)
    exponents = (factors * rows * 128 / 127).log2()
    torch.testing.assert_close(exponents, exponents.round())
    ratios = (factors / wanted).log2()
    assert float(ratios.max() - ratios.min()) <= 1 + 1e-9


@pytest.mark.parametrize("upsampling", ["transposed", "pixel_shuffle"])
def test_equalizing_keeps_the_function_and_fills_the_ranges_of_weights(
    generators: dict[NoiseMode, GPEN], images: Tensor, upsampling: Upsampling
) -> None:
    network = StaticGPEN(generators["concat"], upsampling)
    even = equalize(network, model_to_uint8(images), "vacc")
    with torch.no_grad():
        torch.testing.assert_close(even(images), network(images), rtol=0, atol=1e-5)
    for name, layer in modulated_layers(even):
        weight = main_convolution(layer).weight.detach()
        rows = weight.transpose(0, 1) if layer is not None and upsampling == "transposed" and ".up" in name else weight
        largest = rows.reshape(getattr(layer, "out_channels", 1), -1).abs().amax(dim=1)
        exponents = (largest.double() * 128 / 127).log2()
        torch.testing.assert_close(exponents, exponents.round(), rtol=0, atol=1e-5)


def test_where_outputs_share_a_step_their_channels_become_equal(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network, faces = StaticGPEN(generators["concat"], "pixel_shuffle"), model_to_uint8(images)
    even = equalize(network, faces, "onnxruntime")
    with torch.no_grad():
        torch.testing.assert_close(even(images), network(images), rtol=0, atol=1e-5)
    ranges = calibration_ranges(even, faces, histograms=False)
    names = {id(module): name for name, module in even.named_modules()}
    for _, layer in modulated_layers(even):
        if isinstance(layer, StaticLayer):
            largest = ranges[names[id(main_convolution(layer))]].output.channel_largest
            largest = largest.reshape(layer.out_channels, -1).amax(dim=1)
            torch.testing.assert_close(largest, largest.mean().expand_as(largest), rtol=1e-3, atol=0)


def test_features_become_even_within_a_factor_of_two(generators: dict[NoiseMode, GPEN], images: Tensor) -> None:
    network = StaticGPEN(generators["concat"])
    uneven = rescale(network, RescalingFactors(features=random_factors(network, 1.0).features))
    seen: dict[StaticGPEN, Tensor] = {}
    for candidate in (uneven, equalize(uneven, model_to_uint8(images), "vacc")):
        hook = candidate.blocks[2].plain.register_forward_hook(lambda *call, key=candidate: seen.update({key: call[2]}))
        with torch.no_grad():
            candidate(images)
        hook.remove()
    before, after = (features.abs().amax(dim=(0, 2, 3)).log2() for features in seen.values())
    assert float(before.max() - before.min()) > 3
    assert float(after.max() - after.min()) <= 1.01


def test_an_uneven_copy_is_quantized_as_well_as_the_network_itself(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network, faces = StaticGPEN(generators["concat"]), model_to_uint8(images)
    uneven = rescale(network, random_factors(network, 1.0))
    expected = simulate(network, {}, faces)

    def loss(candidate: StaticGPEN) -> float:
        grids = choose_grids(candidate, calibration_ranges(candidate, faces), "mse", "vacc")
        return decibels(simulate(candidate, grids, faces), expected)

    plain, even = loss(uneven), loss(equalize(uneven, faces, "vacc"))
    assert even > plain + 15
    # Last bits decide ties, and three images do not average that out; the uneven copy itself is 20 dB lower.
    assert even == pytest.approx(loss(equalize(network, faces, "vacc")), abs=1.5)
