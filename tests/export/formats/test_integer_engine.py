"""The QDQ file: integer kernels throughout, and the images of the simulation."""

import math
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from data.ranges import model_to_uint8, uint8_to_model
from export.formats.artefacts import write_onnx
from export.formats.integer_engine import kernels_of_convolutions, write_integer_onnx
from export.int8.calibration_ranges import calibration_ranges
from export.int8.equalization import equalized
from export.int8.integer_simulation import Target, choose_grids, simulate
from export.static.network import StaticGPEN
from inference.restorers import load_restorer
from models import GPEN, NoiseMode
from models.quantization.arithmetic import ConvolutionGrid

NUM_CONVOLUTIONS = 31


def quantized(generator: GPEN, faces: Tensor, target: Target) -> tuple[StaticGPEN, dict[str, ConvolutionGrid]]:
    network = equalized(StaticGPEN(generator, "pixel_shuffle"), faces)
    return network, choose_grids(network, calibration_ranges(network, faces), "mse", target)


def decibels(images: Tensor, reference: Tensor) -> float:
    """PSNR for images in [-1, 1]."""
    return 10 * math.log10(4 / max(float((images - reference).double().square().mean()), 1e-20))


@pytest.mark.parametrize("mode", ["concat", "add", "none"])
def test_all_convolutions_run_in_integers_and_draw_what_was_simulated(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path, mode: NoiseMode
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


def test_a_convolution_without_a_grid_stays_in_float(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path
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


def test_transposed_convolutions_have_no_integer_kernel_and_are_refused(
    generators: dict[NoiseMode, GPEN], tmp_path: Path
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
