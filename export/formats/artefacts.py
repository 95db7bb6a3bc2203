"""The network in files, safetensors, TorchScript and ONNX, and how far each one's images lie from the network's."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from data.randomness import derive_seed
from data.ranges import uint8_to_model
from evaluation.pairs import FacePairs
from export.formats.options import ExportSettings, ParityFaces
from export.static.network import StaticGPEN
from inference.restorers import METADATA_NAME, accepted_deprecations
from models import Architecture
from system.atomic_file import replacing
from system.live_progress import OnStep, ignore_step

SAFETENSORS_NAME = "generator.safetensors"
TORCHSCRIPT_NAME = "generator.torchscript.pt"
ONNX_NAME = "generator.onnx"
COMPILER_ONNX_NAME = "generator_opset11.onnx"
INPUT_NAME, OUTPUT_NAME = "input", "output"
OPSET_RANGE = (11, 20)
"""Lowest and highest ONNX opset that can be asked for."""
DEFAULT_OPSET = ExportSettings.opset
"""For onnxruntime: the highest that PyTorch's exporter writes as asked for."""
COMPILER_OPSET = 11
"""For compilers: models of the Vastai zoo come in 10 or 11, none above 17."""


def write_torchscript(path: Path, network: StaticGPEN) -> None:
    """Traces a static network on the CPU for one image: float32 [1, 3, R, R] named `input` to one tensor."""
    with accepted_deprecations(), torch.no_grad():
        # The parity check compares far more than the tracer's own repetition would.
        traced = torch.jit.trace(network, _example(network.architecture), check_trace=False)
        # To memory first: a full disk is an OSError from Python, but a RuntimeError from TorchScript's writer.
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer, _extra_files={METADATA_NAME: architecture_text(network.architecture)})
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def write_onnx(path: Path, network: StaticGPEN, opset: int = DEFAULT_OPSET, dynamic_batch: bool = False) -> None:
    """Writes a static network on the CPU for one image as ONNX: float32 [1, 3, R, R] named `input` to `output`.

    With `dynamic_batch` the file takes any number, [batch, 3, R, R]. Raises ValueError where the opset is not within
    `OPSET_RANGE`.
    """
    check_opset(opset)
    with replacing(path) as temporary:
        with accepted_deprecations(), torch.no_grad():
            torch.onnx.export(
                network,
                (_example(network.architecture),),
                temporary,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                opset_version=opset,
                dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}} if dynamic_batch else None,
                dynamo=False,
            )
        model = onnx.load(temporary)
        _strip_identities(model.graph)
        model.doc_string = "Face restoration (GPEN): RGB in [-1, 1] to RGB, about [-1, 1], to be clipped"
        onnx.helper.set_model_props(model, {METADATA_NAME: architecture_text(network.architecture)})
        onnx.checker.check_model(model, full_check=True)
        temporary.write_bytes(model.SerializeToString())


def check_opset(opset: int) -> None:
    """Raises ValueError if an opset cannot be written."""
    lowest, highest = OPSET_RANGE
    if not lowest <= opset <= highest:
        raise ValueError(
            f"the ONNX opset must be from {lowest} to {highest}, got {opset}; every bundle also holds opset "
            f"{COMPILER_OPSET}, for compilers"
        )


def architecture_text(architecture: Architecture) -> str:
    """The architecture as stored inside an artefact, JSON."""
    return json.dumps(asdict(architecture))


def _example(architecture: Architecture) -> torch.Tensor:
    """An input to trace with; its values do not matter, since nothing in the static form depends on them."""
    return torch.zeros(1, 3, architecture.resolution, architecture.resolution)


def _strip_identities(graph: onnx.GraphProto) -> None:
    """Lets the users of a constant read it directly where the exporter merged equal constants by Identity nodes.

    A weight behind an Identity counts as computed at run time for TVM and for onnxruntime's quantizer.
    """
    constants = {tensor.name for tensor in graph.initializer}
    sources: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            sources[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    for node in kept:
        for position, name in enumerate(node.input):
            node.input[position] = sources.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


LARGEST_DIFFERENCE = 1e-4
"""Limit in units of [-1, 1]; one step of 8-bit pixels is 8e-3, float32 noise of a trained network about 1e-5."""
_SYNTHETIC_CELLS = 8


@dataclass(frozen=True)
class ImageDifference:
    """Between the images of two networks, in units of [-1, 1]."""

    largest: float
    """Largest absolute difference over all pixels and images."""
    mean: float


def parity_images(settings: ParityFaces, resolution: int) -> Tensor:
    """Makes the inputs to compare on, [N, 3, R, R] float32 in [-1, 1]; FileNotFoundError or ValueError where a folder
    or preset is missing or wrong."""
    if settings.faces is None:
        return _smooth_images(settings, resolution)
    faces = settings.pictures.open(settings.faces)
    pairs = FacePairs(faces, resolution, settings.degradation, settings.seed, max_faces=settings.images)
    return uint8_to_model(pairs.joined().degraded)


def restore_images(
    restore: Callable[[Tensor], Tensor], images: Tensor, words: str, on_step: OnStep = ignore_step, batch_size: int = 1
) -> Tensor:
    """Restores images [N, 3, R, R] in [-1, 1], a few at a time; artefacts are compared on one, as compilers take them.
    `on_step` is told how many are done of what the words name."""
    restored = []
    for number, batch in enumerate(images.split(batch_size)):
        on_step(words, number * batch_size, len(images))
        with torch.no_grad():
            restored.append(restore(batch))
    return torch.cat(restored)


def image_difference(restored: Tensor, expected: Tensor) -> ImageDifference:
    """Largest and mean absolute difference of images of one shape; not a number where a value of either is none."""
    difference = (restored.double() - expected.double()).abs()
    return ImageDifference(float(difference.max()), float(difference.mean()))  # of torch, where NaN is the largest


def check_difference(name: str, difference: ImageDifference) -> None:
    """Raises ValueError if an artefact is not equal to the network it was made from."""
    if not difference.largest <= LARGEST_DIFFERENCE:
        raise ValueError(
            f"{name} differs from the network by up to {difference.largest:.2g}, {LARGEST_DIFFERENCE:g} is allowed, so "
            "nothing was exported; check that the checkpoint restores faces (values far outside [-1, 1] lose precision)"
        )


def _smooth_images(settings: ParityFaces, resolution: int) -> Tensor:
    images = []
    for index in range(settings.images):
        random = torch.Generator().manual_seed(derive_seed(settings.seed, "parity image", index))
        cells = torch.randn(1, 3, _SYNTHETIC_CELLS, _SYNTHETIC_CELLS, generator=random)
        images.append(F.interpolate(cells, size=(resolution, resolution), mode="bicubic").tanh())
    return torch.cat(images)  # [N, 3, R, R]
