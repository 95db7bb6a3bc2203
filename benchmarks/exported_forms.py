"""The ways to run a network on this machine, ready to be timed."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks import textbook as slow
from benchmarks.contenders import Part
from benchmarks.iterations import Precision, Size, images, record, replay
from data.ranges import model_to_uint8
from evaluation.pairs import PairBatch
from export.formats.artefacts import DEFAULT_OPSET, INPUT_NAME, parity_images, write_onnx
from export.formats.integer_engine import write_integer_onnx
from export.formats.options import ParityFaces
from export.int8.layer_selection import NO_BUDGET
from export.int8.quantization import QuantizationSettings, quantize
from export.static.graph import map_layers
from export.static.network import StaticGPEN
from inference.restorers import accepted_deprecations
from models import GPEN
from system.live_progress import ignore_step

Runner = Callable[[], object]
"""Restores one face."""
Form = Literal[
    "eager",
    "static eager",
    "static compiled",
    "static TorchScript",
    "onnxruntime float32",
    "onnxruntime float32, pixel shuffle",
    "onnxruntime int8",
]
"""How a network is run: `eager` is the trained form as it is, the others are exported forms."""


def runner(generator: GPEN, form: Form, num_threads: int) -> Runner:
    """Makes one way of restoring one face by a network on the CPU, whose weights may be random: they take as long as
    trained ones. `static compiled` takes a minute or more at first. PyTorch's threads are set for the whole process."""
    torch.set_num_threads(num_threads)
    image = parity_images(ParityFaces(images=1), generator.architecture.resolution)
    if form == "eager":
        return partial(_without_gradient, generator.to(memory_format=torch.channels_last), image)
    static = StaticGPEN(generator, "pixel_shuffle" if form.endswith(("pixel shuffle", "int8")) else "transposed")
    if form == "static eager":
        return partial(_without_gradient, static, image)
    if form == "static compiled":
        return partial(_without_gradient, torch.compile(static), image)
    if form == "static TorchScript":
        with accepted_deprecations(), torch.no_grad():
            traced = torch.jit.freeze(torch.jit.trace(static, image, check_trace=False))
        return partial(_without_gradient, traced, image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        if form == "onnxruntime int8":
            write_quickly_quantized(path, static)
        else:
            write_onnx(path, static, DEFAULT_OPSET)
        return _session(path, image, num_threads)


def write_quickly_quantized(path: Path, network: StaticGPEN) -> None:
    """Writes a PixelShuffle network in int8 whose speed is real and whose quality is not: calibrated on one smooth
    image."""
    smooth = model_to_uint8(parity_images(ParityFaces(images=1), network.architecture.resolution))
    faces = PairBatch(["smooth"], smooth, smooth)
    settings = QuantizationSettings("max", "onnxruntime", NO_BUDGET, equalize=False, correct_biases=False)
    quantized = quantize(network, map_layers(network), faces, settings, ignore_step)
    write_integer_onnx(path, quantized.network, quantized.grids)


def _session(path: Path, image: Tensor, num_threads: int) -> Runner:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {INPUT_NAME: np.ascontiguousarray(image.numpy())})


def _without_gradient(network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)


def restore(network: nn.Module, degraded: Tensor, precision: Precision) -> Tensor:
    """One forward pass, [N, 3, R, R]."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        restored: Tensor = network(degraded)
        return restored


def ours(size: Size, precision: Precision) -> list[Part]:
    """GPEN."""
    network = GPEN(size.architecture).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return [Part(partial(restore, network, images(size), precision))]


def floor(size: Size, precision: Precision) -> list[Part]:
    """Its dense convolutions."""
    (part,) = ours(size, precision)
    return [Part(replay(record(part.run)))]


def exported(size: Size, form: Form, num_threads: int) -> list[Part]:
    """A form of GPEN that can be deployed, on one image."""
    return [Part(runner(GPEN(size.architecture).requires_grad_(False), form, num_threads))]


def textbook(size: Size) -> list[Part]:
    """GPEN as public code computes it."""
    network = GPEN(size.architecture).requires_grad_(False)
    parameters, degraded = dict(network.named_parameters()), images(size)
    return [Part(partial(slow.gpen, degraded, parameters, size.architecture.noise_mode))]
