"""What a bundle is made of: its settings, the names of its files and the report on them."""

from collections.abc import Mapping
from dataclasses import dataclass

from export.formats.artefacts import COMPILER_ONNX_NAME, ONNX_NAME, SAFETENSORS_NAME, TORCHSCRIPT_NAME, ImageDifference
from export.formats.options import Precision
from export.int8.simulation import Quality
from export.static.graph import KindCost, Layer, ValueRange
from export.static.network import Upsampling
from models import Architecture

INTEGER_TORCHSCRIPT_NAME = "generator_int8.torchscript.pt"
INTEGER_ONNX_NAME = "generator_int8.onnx"
FLOAT_ARTEFACTS = (SAFETENSORS_NAME, TORCHSCRIPT_NAME, ONNX_NAME, COMPILER_ONNX_NAME)
ARTEFACTS = (*FLOAT_ARTEFACTS, INTEGER_TORCHSCRIPT_NAME, INTEGER_ONNX_NAME)
"""Files that restore; those of int8 are in some bundles only."""
LAYER_MAP_NAME, REPORT_NAME, PAGE_NAME, README_NAME = "layer_map.json", "report.json", "report.html", "README.md"
CHECKSUMS_NAME, PATHS_SCRIPT_NAME, PREPROCESSING_NAME = "SHA256SUMS", "absolute_paths.py", "preprocessing.json"
VACC_NAME, CALIBRATION_NAME, GOLDEN_NAME = "vacc", "calibration", "golden"
"""Folders: settings of compiler and runtime; faces to calibrate on; faces and what the card should make of them."""
IMAGES_NAME, INPUTS_NAME, OUTPUTS_NAME, TARGETS_NAME = "images", "inputs", "outputs", "targets"
"""Folders of a set of faces: what a person looks at, what the card reads, what it should write, the clean faces."""
LIST_NAME = "datalist.txt"
INPUT_KEY, OUTPUT_KEY = "input_0", "output_0"
"""Names of vamp's arrays."""
BUNDLE_NAMES = (
    *(*ARTEFACTS, LAYER_MAP_NAME, REPORT_NAME, PAGE_NAME),
    *(README_NAME, CHECKSUMS_NAME, PATHS_SCRIPT_NAME, VACC_NAME, CALIBRATION_NAME, GOLDEN_NAME),
)
"""Everything that a bundle may hold at its top."""


@dataclass(frozen=True)
class ImagesUsed:
    """What the artefacts were compared on; the golden set."""

    kind: str
    """`degraded faces`, or `smooth synthetic images` where no faces were given."""
    number: int
    degradation: str | None
    """Preset; None for synthetic images."""
    seed: int
    """Seed of degradation or drawing."""


@dataclass(frozen=True)
class FormResult:
    """How well one form of the network restores the evaluation faces."""

    form: str
    """`float32`, `fp16, simulated`, `int8 (mse), simulated`, `int8 (mse), onnxruntime`."""
    psnr_to_float: float
    """Against the images of the float network, dB."""
    quality: Quality | None
    """Against clean faces; None where there are none."""


@dataclass(frozen=True)
class LayerEntry:
    """A line of the layer map."""

    layer: Layer
    """What it computes; `conv2d_index` is what `exclude_layers` means."""
    outputs: tuple[str, ...]
    """Layers that compute with its output, as those of `Layer.inputs` do; `output` is the restored face."""
    precision: str
    """`int8`, or `fp16` for what stays in floating point beside it; `float32` in a bundle without int8."""
    reason: str
    input_range: tuple[float, float] | None
    """Smallest and largest input on the calibration faces; None where none was recorded (linear layers, no int8)."""
    output_range: tuple[float, float] | None
    """Smallest and largest output in float, likewise."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how far each form lies from the network; report.json as it stands."""

    checkpoint: str
    card: Mapping[str, str]
    """What the checkpoint says of itself."""
    architecture: Architecture
    resolution: int
    """R in pixels; every artefact maps [1, 3, R, R] to [1, 3, R, R]."""
    precisions: tuple[Precision, ...]
    upsampling: Upsampling
    opset: int
    """Opset of the ONNX file for onnxruntime."""
    flops: int
    """Cost of one image; a multiplication and an addition are two."""
    parameters: int
    """Trained values."""
    cost_by_kind: tuple[KindCost, ...]
    images: ImagesUsed
    """Which images the differences hold for."""
    differences: Mapping[str, ImageDifference]
    """By the name of an artefact: how far its images are from those of the network it was written from, which is the
    trained one, but for the trace that int8 is compiled from: its channels are rescaled and its biases corrected."""
    num_calibration: int
    """Faces that int8 was calibrated on."""
    num_evaluation: int
    """Other faces that the results hold for."""
    evaluated_on: str
    """What the training's record says of these, in words."""
    results: tuple[FormResult, ...]
    """Float first."""
    int8_flops_share: float | None
    """Share of all FLOPs that are in int8; None in a bundle without it."""
    ranges: Mapping[str, ValueRange]
    """Values of every module, where fp16 was asked for."""
    warnings: tuple[str, ...]
    """What needs attention, one sentence each."""
    sha256: Mapping[str, str]
    versions: Mapping[str, str]
    """Versions of Python and the libraries that wrote and ran the artefacts."""
    processor: str
    """The processor that ran the artefacts."""
