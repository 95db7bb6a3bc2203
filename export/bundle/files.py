"""Writes everything of a bundle beside the networks: settings, faces, layer map, reports."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from export.bundle import absolute_paths
from export.bundle.contents import (
    CALIBRATION_NAME,
    GOLDEN_NAME,
    INTEGER_TORCHSCRIPT_NAME,
    LAYER_MAP_NAME,
    PAGE_NAME,
    PATHS_SCRIPT_NAME,
    PREPROCESSING_NAME,
    README_NAME,
    REPORT_NAME,
    VACC_NAME,
    ExportReport,
    ExportSettings,
)
from export.bundle.face_sets import (
    IMAGES_NAME,
    OUTPUT_KEY,
    OUTPUTS_NAME,
    TARGETS_NAME,
    write_array,
    write_images,
    write_inputs,
)
from export.bundle.faces import BundleFaces
from export.bundle.page import bundle_page
from export.bundle.precision_forms import PrecisionForms
from export.bundle.readme import readme_text
from export.bundle.vacc_files import compile_settings, preprocessing
from export.formats.artefacts import TORCHSCRIPT_NAME

COUNTING = (
    "conv2d_index numbers the nn.conv2d calls of the graph from 0, depthwise ones included, as TVM's relay.quantize "
    "does for exclude_layers; transposed convolutions and linear layers are other operators and have no number"
)


def write_bundle_files(
    folder: Path, report: ExportReport, faces: BundleFaces, forms: PrecisionForms, settings: ExportSettings
) -> None:
    """Writes settings, faces, layer map and reports.

    Args:
        folder: Of the bundle, with the networks in it.
        report: What was measured.
        faces: Of the bundle.
        forms: The network in every precision.
        settings: What was asked for.

    Raises:
        OSError: A file cannot be written.
    """
    _write_golden(folder, faces, forms)
    calibrated_on = faces.calibrated_on
    if calibrated_on is not None:
        write_inputs(folder, CALIBRATION_NAME, calibrated_on)
    _write_vacc(folder, report, forms, settings)
    (folder / PATHS_SCRIPT_NAME).write_bytes(Path(absolute_paths.__file__).read_bytes())
    layer_map = {"counting": COUNTING, "layers": [asdict(layer) for layer in forms.layers]}
    _write_text(folder / LAYER_MAP_NAME, json.dumps(layer_map, indent=1) + "\n")
    _write_text(
        folder / README_NAME, readme_text(report, sum(layer.conv2d_index is not None for layer in forms.layers))
    )
    bundle_page(report, faces, forms).write(folder / PAGE_NAME)
    _write_text(folder / REPORT_NAME, json.dumps(asdict(report), indent=2) + "\n")


def _write_golden(folder: Path, faces: BundleFaces, forms: PrecisionForms) -> None:
    """Inputs, what each precision should make of them, and the clean faces."""
    stems = write_inputs(folder, GOLDEN_NAME, faces.golden)
    for precision, form in forms.golden_forms.items():
        for stem, image in zip(stems, forms.restored[form], strict=False):  # the golden faces are the first ones
            path = folder / GOLDEN_NAME / OUTPUTS_NAME / precision / f"{stem}.npz"
            write_array(path, OUTPUT_KEY, image[None].to(torch.float32).numpy())
    if faces.has_targets:
        write_images(folder / GOLDEN_NAME / TARGETS_NAME, stems, faces.golden.target)


def _write_vacc(folder: Path, report: ExportReport, forms: PrecisionForms, settings: ExportSettings) -> None:
    """Settings of compiler and runtime."""
    (folder / VACC_NAME).mkdir()
    _write_text(folder / VACC_NAME / PREPROCESSING_NAME, preprocessing(report.resolution))
    name = f"gpen_{report.resolution}"
    if "fp16" in settings.precisions:
        text = compile_settings(f"{name}_fp16", "fp16", TORCHSCRIPT_NAME, report.resolution)
        _write_text(folder / VACC_NAME / "fp16.yaml", text)
    if "int8" in settings.precisions:
        excluded = [
            layer.conv2d_index for layer in forms.layers if layer.precision != "int8" and layer.conv2d_index is not None
        ]
        text = compile_settings(
            f"{name}_int8",
            "int8",
            INTEGER_TORCHSCRIPT_NAME,
            report.resolution,
            settings.quantization.calibration,
            excluded,
            f"{CALIBRATION_NAME}/{IMAGES_NAME}",
            report.num_calibration,
        )
        _write_text(folder / VACC_NAME / "int8.yaml", text)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
