"""Simulated 16-bit arithmetic and the ranges that decide about it."""

import copy

import pytest
import torch
from torch import Tensor

from export.static.graph import ValueRange, capture_graph, evaluate_graph, half_risks, record_ranges, simulate_half
from export.static.network import StaticGPEN
from models import GPEN, NoiseMode


def test_graph_evaluated_step_by_step_is_the_network_for_any_number_of_images(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network = StaticGPEN(generators["concat"], "pixel_shuffle")
    with torch.no_grad():
        stepwise = evaluate_graph(capture_graph(network), images, lambda _, value: value)
        torch.testing.assert_close(stepwise, network(images), rtol=0, atol=1e-6)


@torch.no_grad()
def test_simulated_half_precision_is_what_pytorch_computes_in_half(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network = StaticGPEN(generators["add"])
    exact, simulated = network(images[:1]), simulate_half(network)(images[:1])
    real = copy.deepcopy(network).half()(images[:1].half()).float()
    assert torch.equal(simulated, simulated.half().float())
    error, error_real = (float((x - exact).square().mean().sqrt()) for x in (simulated, real))
    # Neither is the other's truth: they add in another order. Their distances from float32 must be alike.
    assert 0.4 < error / error_real < 2.5
    assert 1e-5 < error < 1e-2


@torch.no_grad()
def test_ranges_are_those_that_hooks_see(generators: dict[NoiseMode, GPEN], images: Tensor) -> None:
    network = StaticGPEN(generators["concat"])
    ranges = record_ranges(network, images)
    seen: list[float] = []
    module = network.blocks[1].plain.convolution
    module.register_forward_hook(lambda m, i, output: seen.append(float(output.abs().max())))
    energies: list[float] = []
    network.blocks[1].plain.energy.register_forward_hook(lambda m, i, output: energies.append(float(output.min())))
    for image in images.split(1):
        network(image)
    assert ranges["blocks.1.plain.convolution"].largest == pytest.approx(max(*seen, float(module.weight.abs().max())))
    assert ranges["blocks.1.plain.energy"].smallest_energy == pytest.approx(min(energies))
    assert ranges["blocks.1.plain.convolution"].smallest_energy is None


@torch.no_grad()
def test_a_layer_that_overflows_is_named_and_breaks_the_simulation(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network = StaticGPEN(generators["concat"])
    assert half_risks(record_ranges(network, images)) == []
    # The same function: the first convolution's outputs grow, its consumer shrinks by as much.
    network.encoder.from_rgb.weight.mul_(1e6)
    assert network.encoder.from_rgb.bias is not None
    network.encoder.from_rgb.bias.mul_(1e6)
    network.encoder.convolutions[0].weight.mul_(1e-6)
    network.blocks[-1].up.feature_strength.mul_(1e-6)
    network.blocks[-1].plain.feature_strength.mul_(1e-6)
    risks = half_risks(record_ranges(network, images))
    assert any(risk.startswith("encoder.from_rgb overflows fp16") for risk in risks)
    assert not any("mapping" in risk for risk in risks)
    assert not torch.isfinite(simulate_half(network)(images)).all()


def test_risks_have_thresholds_on_both_sides() -> None:
    assert half_risks({"a": ValueRange(16000, None), "b.energy": ValueRange(1, 1e-3)}) == []
    (close,) = half_risks({"a": ValueRange(17000, None)})
    assert "comes close to overflow" in close
    (broken,) = half_risks({"a": ValueRange(float("nan"), None)})
    assert "overflows" in broken
    (zero,) = half_risks({"b.energy": ValueRange(1, 1e-6)})
    assert "divide by zero" in zero and "b.energy" in zero
