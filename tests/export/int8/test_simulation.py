"""Ranges and histograms against values that hooks collect."""

import torch
from torch import Tensor, nn

from data.ranges import model_to_uint8, uint8_to_model
from export.int8.simulation import calibration_ranges, choose_grids, convolution_names, restore_with
from export.static.network import StaticGPEN
from models import GPEN, NoiseMode
from models.quantization import NUM_BINS


def test_ranges_are_those_of_the_values_over_all_faces(generators: dict[NoiseMode, GPEN], images: Tensor) -> None:
    network, faces = StaticGPEN(generators["concat"]), model_to_uint8(images).repeat(4, 1, 1, 1)  # two batches
    name = "blocks.1.plain.convolution"
    seen: list[tuple[Tensor, Tensor]] = []
    hook = network.get_submodule(name).register_forward_hook(lambda _, x, y: seen.append((x[0], y)))
    with torch.no_grad():
        network(uint8_to_model(faces))
    hook.remove()
    ranges = calibration_ranges(network, faces)[name]
    for range_, values in zip((ranges.input, ranges.output), seen[0], strict=True):
        torch.testing.assert_close(range_.lowest, values.amin(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(range_.highest, values.amax(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(range_.largest, values.abs().max(), rtol=1e-5, atol=1e-5)
        assert range_.counts is not None and float(range_.counts.sum()) == values.numel()
        below = int((values.abs() < range_.largest / 4).sum())
        assert abs(float(range_.counts[: NUM_BINS // 4].sum()) - below) <= 1e-4 * values.numel()


def test_every_convolution_is_met_once_and_by_its_name(generators: dict[NoiseMode, GPEN], images: Tensor) -> None:
    network = StaticGPEN(generators["add"], "pixel_shuffle")
    modules = {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    assert set(convolution_names(network).values()) == modules
    assert set(calibration_ranges(network, model_to_uint8(images), histograms=False)) == modules


def test_a_convolution_that_is_computed_otherwise_changes_the_image(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network, faces = StaticGPEN(generators["concat"]), model_to_uint8(images)
    with torch.no_grad():
        expected = network(uint8_to_model(faces))
    torch.testing.assert_close(
        restore_with(network, faces, lambda _, call: call.compute()), expected, rtol=0, atol=1e-5
    )
    last = "blocks.3.to_rgb.convolution"
    shifted = restore_with(network, faces, lambda name, call: call.compute() + (0.25 if name == last else 0))
    torch.testing.assert_close(shifted, expected + 0.25, rtol=0, atol=1e-5)


def test_a_byte_covers_an_activations_own_range_in_finer_steps(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network, faces = StaticGPEN(generators["concat"], "pixel_shuffle"), model_to_uint8(images)
    ranges = calibration_ranges(network, faces)
    for name, grid in choose_grids(network, ranges, "max", "onnxruntime").items():
        range_, step, (first, last) = ranges[name].input, grid.input_step, grid.input_codes
        lowest, highest = range_.lowest.min(), range_.highest.max()
        assert -255 <= first <= 0 <= last == first + 255
        assert (first - 0.51) * step <= lowest and highest <= (last + 0.51) * step
        assert step * 255 <= 1.001 * (highest.clamp_min(0) - lowest.clamp_max(0))
    assert grid.output_step is not None and grid.output_codes[1] - grid.output_codes[0] == 255
