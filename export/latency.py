"""The ways to run a network on this machine, ready to be timed."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from data.ranges import model_to_uint8
from evaluation.pairs import PairBatch
from export.artefacts import DEFAULT_OPSET, INPUT_NAME, accepted_deprecations, write_onnx
from export.integer_engine import write_integer_onnx
from export.layer_map import map_layers
from export.parity import ParityFaces, parity_images
from export.quantization import QuantizationSettings, quantize
from export.static_network import StaticGPEN
from models import GPEN

Runner = Callable[[], object]
"""Restores one face."""


def runners(generator: GPEN, num_threads: int, is_compiled: bool = True) -> dict[str, Runner]:
    """Makes every way of restoring one face on the CPU, warmed up.

    Args:
        generator: A network on the CPU; random weights take as long as trained ones.
        num_threads: For PyTorch (set for the whole process) and for each onnxruntime session.
        is_compiled: Include torch.compile, which takes a minute or more at first.

    Returns:
        By name: `eager` (the trained form as it is), `static eager`, `static compiled`, `static TorchScript`,
        `onnxruntime float32`, `onnxruntime float32, pixel shuffle`, `onnxruntime int8`.
    """
    torch.set_num_threads(num_threads)
    resolution = generator.architecture.resolution
    image = parity_images(ParityFaces(num_images=1), resolution)
    static, shuffled = StaticGPEN(generator), StaticGPEN(generator, "pixel_shuffle")
    with accepted_deprecations(), torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(static, image, check_trace=False))
    found: dict[str, Runner] = {
        "eager": partial(_without_gradient, generator, image),
        "static eager": partial(_without_gradient, static, image),
        "static TorchScript": partial(_without_gradient, traced, image),
    }
    if is_compiled:
        found["static compiled"] = partial(_without_gradient, torch.compile(static), image)
    with tempfile.TemporaryDirectory() as folder:
        for name, network in (("", static), (", pixel shuffle", shuffled)):
            path = Path(folder) / "float.onnx"
            write_onnx(path, network, DEFAULT_OPSET)
            found[f"onnxruntime float32{name}"] = _session(path, image, num_threads)
        write_quickly_quantized(Path(folder) / "int8.onnx", shuffled)
        found["onnxruntime int8"] = _session(Path(folder) / "int8.onnx", image, num_threads)
    for run in found.values():  # compilation, memory and kernel choice belong to the first run
        run()
    return found


def write_quickly_quantized(path: Path, network: StaticGPEN) -> None:
    """Writes a network in int8 whose speed is real and whose quality is not: calibrated on one smooth image.

    Args:
        path: ONNX file.
        network: Static form with PixelShuffle.
    """
    smooth = model_to_uint8(parity_images(ParityFaces(num_images=1), network.architecture.resolution))
    faces = PairBatch(["smooth"], smooth, smooth)
    settings = QuantizationSettings(
        "max", "onnxruntime", None, largest_float_flops=0.0, equalize=False, correct_biases=False
    )
    quantized = quantize(network, map_layers(network), faces, faces, settings, lambda step: None)
    write_integer_onnx(path, quantized.network, quantized.grids)


def _session(path: Path, image: Tensor, num_threads: int) -> Runner:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {INPUT_NAME: np.ascontiguousarray(image.numpy())})


def _without_gradient(network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)
