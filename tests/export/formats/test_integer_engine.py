"""The QDQ file: integer kernels throughout, and the images of the simulation."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from data.ranges import model_to_uint8, uint8_to_model
from export.formats.artefacts import write_onnx
from export.formats.integer_engine import module_name, write_integer_onnx, zero_point
from export.int8.equalization import equalize
from export.int8.simulation import Target, calibration_ranges, choose_grids, restore_with, simulate
from export.static.network import StaticGPEN
from inference.restorers import load_restorer
from models import GPEN, NoiseMode
from models.quantization import Codes, ConvolutionCall, ConvolutionGrid, along, codes, weight_steps

NUM_CONVOLUTIONS = 31
TIE = 1e-3
"""How far from a tie, in codes, float32 may decide otherwise: codes up to 128 times its errors of about 1e-6."""
Kernels = Callable[[Path], dict[str, int]]


def quantized(generator: GPEN, faces: Tensor, target: Target) -> tuple[StaticGPEN, dict[str, ConvolutionGrid]]:
    network = equalize(StaticGPEN(generator, "pixel_shuffle"), faces, target)
    return network, choose_grids(network, calibration_ranges(network, faces), "mse", target)


def decibels(images: Tensor, reference: Tensor) -> float:
    """PSNR for images in [-1, 1]."""
    return 10 * math.log10(4 / max(float((images - reference).double().square().mean()), 1e-20))


@pytest.mark.parametrize("mode", ["concat", "add", "none"])
def test_all_convolutions_run_in_integers_and_draw_what_was_simulated(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path, kernels_of_convolutions: Kernels, mode: NoiseMode
) -> None:
    faces, path = model_to_uint8(images), tmp_path / "integer.onnx"
    network, grids = quantized(generators[mode], faces, "onnxruntime")
    write_integer_onnx(path, network, grids)
    assert kernels_of_convolutions(path) == {"QLinearConv": NUM_CONVOLUTIONS}
    restorer = load_restorer(path)
    drawn, simulated = restorer(uint8_to_model(faces)), simulate(network, grids, faces)
    loss = decibels(simulated, simulate(network, {}, faces))
    # What remains are ties and last bits that fall to the other side: far less than rounding itself.
    assert decibels(drawn, simulated) > loss + 8
    assert drawn.shape == images.shape and restorer.resolution == 64


@pytest.mark.parametrize("mode", ["concat", "add", "none"])
def test_every_convolution_of_the_engine_gives_the_codes_of_exact_integers(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path, mode: NoiseMode
) -> None:
    """The network is followed with the engine's own codes, so that a tie here does not become a difference there."""
    faces, path = model_to_uint8(images), tmp_path / "integer.onnx"
    network, grids = quantized(generators[mode], faces, "onnxruntime")
    write_integer_onnx(path, network, grids)
    drawn, inside = codes_inside(path, uint8_to_model(faces[:1]))
    assert inside.keys() == grids.keys()

    def check(name: str, call: ConvolutionCall) -> Tensor:
        grid, (entering, leaving) = grids[name], inside[name]
        entering, leaving = entering - zero_point(grid.input_codes), leaving - zero_point(grid.output_codes)
        assert_codes(entering, call.x / grid.input_step, grid.input_codes, name)
        weight = codes(call.weight, along(grid.weight_step, 0)).double()
        sums = call.convolve(entering.double(), weight)  # whole numbers below 2^53
        step = (grid.input_step * grid.weight_step).double()
        if call.bias is not None:
            sums = sums + along((call.bias / step).round(), 1)
        assert grid.output_step is not None
        assert_codes(leaving, sums * along(step, 1) / grid.output_step, grid.output_codes, name)
        return leaving * grid.output_step

    followed = restore_with(network, faces[:1], check)
    torch.testing.assert_close(drawn, followed, rtol=0, atol=1e-5)


def assert_codes(found: Tensor, exact: Tensor, ends: Codes, name: str) -> None:
    """Codes must be those of the exact values, but for values that float32 cannot tell from a tie."""
    expected = exact.clamp(*ends).round()
    others = exact[found != expected]
    assert bool(((others - others.floor() - 0.5).abs() < TIE).all()), name
    assert float((found - expected).abs().max()) <= 1 and len(others) <= 1e-3 * found.numel(), name


def codes_inside(path: Path, image: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Runs a file's integer kernels on one image.

    Returns:
        The restored image, and by module the codes that enter and leave its QLinearConv, as float32 in [-128, 127].
    """
    with tempfile.TemporaryDirectory() as folder:
        options, optimized = onnxruntime.SessionOptions(), Path(folder) / "optimized.onnx"
        options.optimized_model_filepath, options.log_severity_level = str(optimized), 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        model = onnx.load(optimized)
    places = {module_name(n): (n.input[0], n.output[0]) for n in model.graph.node if n.op_type == "QLinearConv"}
    zeros = {t.name: t.data_type for t in model.graph.initializer}
    kinds = {n.input[0]: zeros[n.input[2]] for n in model.graph.node if n.op_type == "QLinearConv"}
    kinds |= {n.output[0]: zeros[n.input[7]] for n in model.graph.node if n.op_type == "QLinearConv"}
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    restored, *values = session.run(["output", *kinds], {"input": image.numpy()})
    signed = {  # onnxruntime makes signed activations unsigned on some processors
        name: torch.from_numpy(value.astype(np.float32)) - 128 * (value.dtype == np.uint8)
        for name, value in zip(kinds, values, strict=True)
    }
    return torch.from_numpy(restored), {module: (signed[x], signed[y]) for module, (x, y) in places.items()}


@pytest.mark.parametrize("mode", ["none"])
def test_processors_that_add_products_in_16_bits_draw_the_same(
    generators: dict[NoiseMode, GPEN], images: Tensor, mode: NoiseMode
) -> None:
    faces = model_to_uint8(images[:1])
    network, grids = quantized(generators[mode], faces, "onnxruntime")

    def draw(grids: dict[str, ConvolutionGrid], channels_last: bool) -> Tensor:
        return restore_with(network, faces, lambda n, call: sixteen_bit_convolution(call, grids[n], channels_last))

    simulated = simulate(network, grids, faces)
    for channels_last in (False, True):
        torch.testing.assert_close(draw(grids, channels_last), simulated, rtol=0, atol=0)
    # The steps that the card takes would fill eight bits: they lose most of the picture on such processors.
    filled = {n: replace(g, weight_step=weight_steps(network.get_submodule(n).weight, 0)) for n, g in grids.items()}
    lost = decibels(draw(filled, False), simulate(network, {}, faces))
    assert lost < decibels(simulate(network, filled, faces), simulate(network, {}, faces)) - 8


def test_no_two_weights_in_the_file_can_overflow_16_bits(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path
) -> None:
    faces, path = model_to_uint8(images), tmp_path / "integer.onnx"
    network, grids = quantized(generators["concat"], faces, "onnxruntime")
    write_integer_onnx(path, network, grids)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    weights = [value for name, value in constants.items() if name.endswith("weight_codes")]
    assert len(weights) == NUM_CONVOLUTIONS
    for weight in weights:
        rows = np.sort(weight.reshape(len(weight), -1).astype(int))
        assert 255 * rows[:, -2:].clip(0).sum(axis=1).max() < 2**15
        assert 255 * rows[:, :2].clip(None, 0).sum(axis=1).min() >= -(2**15)
    assert max(int(abs(weight.astype(int)).max()) for weight in weights) > 64  # more than 7 bits where there is room
    filled = {n: replace(g, weight_step=weight_steps(network.get_submodule(n).weight, 0)) for n, g in grids.items()}
    with pytest.raises(ValueError, match="must add up to 128 at most"):
        write_integer_onnx(path, network, filled)


def sixteen_bit_convolution(call: ConvolutionCall, grid: ConvolutionGrid, channels_last: bool) -> Tensor:
    """A convolution as x86 processors without VNNI add it: two products at a time, in 16 bits that saturate.

    Activations are unsigned bytes, as onnxruntime makes them, and the weights' sums times the byte of 0 are taken out
    again; VPMADDUBSW multiplies and adds neighbours, the rest is exact.

    Args:
        call: The convolution.
        grid: Its steps, of the target onnxruntime.
        channels_last: Whether neighbours are two channels of one tap, or two taps of one channel.

    Returns:
        [1, out_channels, H', W'], rounded to the output's grid.
    """
    weight, x = codes(call.weight, along(grid.weight_step, 0)), codes(call.x, grid.input_step, grid.input_codes)
    taps = torch.arange(weight[0].numel()).reshape(weight.shape[1:])
    order = (taps.permute(1, 2, 0) if channels_last else taps).flatten()
    groups = x.shape[1] // weight.shape[1]
    columns = torch.stack([_met_by(tap, x, call, groups) for tap in order.tolist()])  # [K, groups, H' * W']
    rows = weight.flatten(1)[:, order]  # [out_channels, K]
    first = grid.input_codes[0]
    sums = [_saturated(part, columns[:, group], first) for group, part in enumerate(rows.chunk(groups))]
    accumulators = torch.cat(sums).reshape(call.convolve(x, weight).shape)
    step = grid.input_step * grid.weight_step
    assert grid.output_step is not None
    if call.bias is not None:
        accumulators = accumulators + along((call.bias / step).round(), 1)
    return (accumulators * along(step / grid.output_step, 1)).clamp(*grid.output_codes).round() * grid.output_step


def _met_by(tap: int, x: Tensor, call: ConvolutionCall, groups: int) -> Tensor:
    """What one weight of a row meets at every place of the output, [groups, H' * W']."""
    probe = torch.zeros(groups, call.weight[0].numel())
    probe[:, tap] = 1
    return call.convolve(x, probe.reshape(groups, *call.weight.shape[1:])).flatten(2)[0]


def _saturated(rows: Tensor, columns: Tensor, first: int) -> Tensor:
    """Products of codes [out, K] and codes [K, P] from the first one on, added two at a time in 16 bits, [out, P]."""
    total = first * rows.sum(dim=1, keepdim=True)
    for start in range(0, len(columns), 2):
        pair = rows[:, start : start + 2] @ (columns[start : start + 2] - first)
        total = total + pair.clamp(-(2**15), 2**15 - 1)
    return total


def test_a_convolution_without_a_grid_stays_in_float(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path, kernels_of_convolutions: Kernels
) -> None:
    faces, path = model_to_uint8(images), tmp_path / "integer.onnx"
    network, grids = quantized(generators["concat"], faces, "onnxruntime")
    left_out = "blocks.3.to_rgb.convolution"
    write_integer_onnx(path, network, {n: g for n, g in grids.items() if n != left_out})
    kernels = kernels_of_convolutions(path)
    assert kernels["QLinearConv"] == NUM_CONVOLUTIONS - 1 and sum(kernels.values()) == NUM_CONVOLUTIONS
    constants = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    types = {n: t.data_type for n, t in constants.items() if n.endswith(("weight", "weight_codes"))}
    assert [n for n, t in types.items() if t == onnx.TensorProto.FLOAT and "convolution" in n] == [f"{left_out}.weight"]


def test_the_codes_in_the_file_are_those_of_the_simulation(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path
) -> None:
    faces, path = model_to_uint8(images), tmp_path / "integer.onnx"
    network, grids = quantized(generators["concat"], faces, "onnxruntime")
    write_integer_onnx(path, network, grids)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    name, node = "encoder.convolutions.1", "/encoder/convolutions.1/Conv"
    weight, grid = network.get_submodule(name).weight, grids[name]
    expected = (weight / grid.weight_step[:, None, None, None]).round().clamp(-127, 127)
    assert torch.equal(torch.tensor(constants[f"{node}_weight_codes"]).float(), expected)
    step = grid.input_step * grid.weight_step
    assert constants[f"{node}_bias_codes"].dtype == "int32"
    bias = torch.tensor(constants[f"{node}_bias_codes"]) * step
    torch.testing.assert_close(bias, network.get_submodule(name).bias, rtol=0, atol=float(step.max()))
    assert constants[f"{node}_input_step"] == float(grid.input_step)
    assert constants[f"{node}_input_zero"] == -128 - grid.input_codes[0] != 0


def test_transposed_convolutions_have_no_integer_kernel_and_are_refused(
    generators: dict[NoiseMode, GPEN], tmp_path: Path, kernels_of_convolutions: Kernels
) -> None:
    network = StaticGPEN(generators["concat"])
    with pytest.raises(ValueError, match="must upsample by PixelShuffle"):
        write_integer_onnx(tmp_path / "integer.onnx", network, {})
    write_onnx(tmp_path / "float.onnx", network, 17)
    assert kernels_of_convolutions(tmp_path / "float.onnx")["ConvTranspose"] == 8


def test_grids_without_output_steps_are_refused(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path
) -> None:
    network, grids = quantized(generators["concat"], model_to_uint8(images), "vacc")
    with pytest.raises(ValueError, match="must have a step for its output"):
        write_integer_onnx(tmp_path / "integer.onnx", network, grids)
    assert not (tmp_path / "integer.onnx").exists()
