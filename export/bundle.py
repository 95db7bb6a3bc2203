"""A trained network as a folder of artefacts that were run and compared before anyone sees them."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from atomic_file import write_atomically
from export.artefacts import (
    DEFAULT_OPSET,
    ONNX_NAME,
    SAFETENSORS_NAME,
    TORCHSCRIPT_NAME,
    check_opset,
    write_onnx,
    write_safetensors,
    write_torchscript,
)
from export.bundle_readme import readme_text
from export.cost import KindCost, count_cost
from export.parity import Difference, ParityFaces, check_difference, measure_difference, parity_images
from export.restorers import load_restorer
from export.static_network import StaticGPEN
from models import GPEN, Architecture, build_generator, read_checkpoint

REPORT_NAME, README_NAME = "report.json", "README.md"
ARTEFACT_NAMES = (SAFETENSORS_NAME, TORCHSCRIPT_NAME, ONNX_NAME)


@dataclass(frozen=True)
class ImagesUsed:
    """What the artefacts were compared on."""

    kind: str
    """`degraded faces`, or `smooth synthetic images` where no faces were given."""
    number: int
    """How many."""
    degradation: str | None
    """Preset; None for synthetic images."""
    seed: int
    """Of degradation or drawing."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how far each artefact lies from the network; report.json as it stands."""

    checkpoint: str
    """Name of the file."""
    card: Mapping[str, str]
    """What the checkpoint says of itself."""
    architecture: Architecture
    """Of the network."""
    resolution: int
    """R in pixels; every artefact maps [1, 3, R, R] to [1, 3, R, R]."""
    opset: int
    """Of the ONNX file."""
    flops: int
    """For one image; a multiplication and an addition are two."""
    parameters: int
    """Trained values."""
    cost_by_kind: tuple[KindCost, ...]
    """The same by kind of layer."""
    images: ImagesUsed
    """Which images the differences hold for."""
    safetensors_max_difference: float
    """Over all pixels and images, in units of [-1, 1]."""
    safetensors_mean_difference: float
    """Of the absolute values, in units of [-1, 1]."""
    torchscript_max_difference: float
    torchscript_mean_difference: float
    onnx_max_difference: float
    onnx_mean_difference: float
    sha256: Mapping[str, str]
    """Of each artefact."""
    versions: Mapping[str, str]
    """Of Python and the libraries that wrote and ran the artefacts."""


def export_bundle(
    checkpoint: Path | str,
    output: Path | str,
    compare_on: ParityFaces | None = None,
    opset: int = DEFAULT_OPSET,
    overwrite: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> ExportReport:
    """Writes safetensors, TorchScript and ONNX of a checkpoint's EMA weights, each run and compared with the network.

    Nothing appears at the target before all have passed; report.json comes last and marks a bundle as complete.

    Args:
        checkpoint: Any file that `models.load_generator` reads.
        output: Folder of the bundle.
        compare_on: Images for the comparison; None takes the default, smooth synthetic images.
        opset: Of the ONNX file.
        overwrite: Replace the files of a bundle that is there already; other files in the folder stay.
        on_step: Told in a few words what begins.

    Returns:
        What report.json holds.

    Raises:
        ValueError, OSError: An input is wrong or missing, the target exists, or an artefact differs too much.
    """
    output, tell, settings = Path(output), on_step or _say_nothing, compare_on or ParityFaces()
    _check_request(output, overwrite, opset)
    stored = read_checkpoint(checkpoint)
    generator, card = build_generator(stored), stored.card
    images = parity_images(settings, generator.architecture.resolution)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        folder = Path(temporary)
        _write_artefacts(folder, generator, card, opset, tell)
        differences = _compare(folder, generator, images, tell)
        used = _images_used(settings, len(images))
        report = _report(folder, Path(checkpoint).name, card, generator.architecture, opset, used, differences)
        _write_texts(folder, report)
        _move_in(folder, output)
    return report


def _check_request(output: Path, overwrite: bool, opset: int) -> None:
    """Refuses to touch what is there already, unless asked to, and what would fail in the end."""
    check_opset(opset)
    if output.exists() and not output.is_dir():
        raise ValueError(f"the output must be a folder, {output} is a file; name another")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise ValueError(
            f"the folder {output} is not empty; name another or add --overwrite to replace the bundle in it"
        )


def _write_artefacts(
    folder: Path, generator: GPEN, card: Mapping[str, str], opset: int, tell: Callable[[str], None]
) -> None:
    tell("writing safetensors")
    write_safetensors(folder / SAFETENSORS_NAME, generator, card)
    network = StaticGPEN(generator)
    tell("tracing for TorchScript")
    write_torchscript(folder / TORCHSCRIPT_NAME, network)
    tell("writing ONNX")
    write_onnx(folder / ONNX_NAME, network, opset)


def _compare(folder: Path, generator: GPEN, images: Tensor, tell: Callable[[str], None]) -> dict[str, Difference]:
    """Runs every artefact as its users will."""
    differences = {}
    for name in ARTEFACT_NAMES:
        tell(f"comparing {name} with the network on {len(images)} images")
        differences[name] = measure_difference(generator, load_restorer(folder / name), images)
        check_difference(name, differences[name])
    return differences


def _report(
    folder: Path,
    checkpoint: str,
    card: Mapping[str, str],
    architecture: Architecture,
    opset: int,
    images: ImagesUsed,
    differences: Mapping[str, Difference],
) -> ExportReport:
    cost = count_cost(architecture)
    return ExportReport(
        checkpoint=checkpoint,
        card=card,
        architecture=architecture,
        resolution=architecture.resolution,
        opset=opset,
        flops=cost.flops,
        parameters=cost.parameters,
        cost_by_kind=cost.kinds,
        images=images,
        safetensors_max_difference=differences[SAFETENSORS_NAME].largest,
        safetensors_mean_difference=differences[SAFETENSORS_NAME].mean,
        torchscript_max_difference=differences[TORCHSCRIPT_NAME].largest,
        torchscript_mean_difference=differences[TORCHSCRIPT_NAME].mean,
        onnx_max_difference=differences[ONNX_NAME].largest,
        onnx_mean_difference=differences[ONNX_NAME].mean,
        sha256={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ARTEFACT_NAMES},
        versions=_versions(),
    )


def _write_texts(folder: Path, report: ExportReport) -> None:
    write_atomically(folder / README_NAME, readme_text(report.architecture, report.opset))
    write_atomically(folder / REPORT_NAME, json.dumps(asdict(report), indent=2) + "\n")


def _move_in(folder: Path, output: Path) -> None:
    """Moves the files to their place, the mark of completeness last; without it the bundle is not valid."""
    output.mkdir(exist_ok=True)
    (output / REPORT_NAME).unlink(missing_ok=True)
    for name in (*ARTEFACT_NAMES, README_NAME, REPORT_NAME):
        os.replace(folder / name, output / name)


def _images_used(settings: ParityFaces, number: int) -> ImagesUsed:
    if settings.faces is None:
        return ImagesUsed("smooth synthetic images", number, None, settings.seed)
    return ImagesUsed("degraded faces", number, settings.degradation, settings.seed)


def _versions() -> dict[str, str]:
    libraries = ("torch", "onnx", "onnxruntime", "safetensors", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}


def _say_nothing(step: str) -> None:
    """The default of `on_step`."""
