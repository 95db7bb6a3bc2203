"""Everything of a bundle beside the networks: settings of the VACC compiler and runtime, faces, layer map, reports.

The settings follow the public model zoo Vastai/VastModelZOO (cv/super_resolution/gpen); the tools could not be run.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from export.bundle import absolute_paths, contents
from export.bundle.contents import ExportReport
from export.bundle.faces import BundleFaces, write_array, write_images, write_inputs
from export.bundle.page import bundle_page
from export.bundle.precision_forms import PrecisionForms
from export.bundle.readme import readme_text
from export.formats.artefacts import INPUT_NAME, TORCHSCRIPT_NAME
from export.formats.options import ExportSettings

COUNTING = (
    "conv2d_index numbers the nn.conv2d calls of the graph from 0, depthwise ones included, as TVM's relay.quantize "
    "does for exclude_layers; transposed convolutions and linear layers are other operators and have no number"
)


def write_bundle_files(
    folder: Path, report: ExportReport, faces: BundleFaces, forms: PrecisionForms, settings: ExportSettings
) -> None:
    """Writes settings, faces, layer map and reports into the folder of a bundle, beside the networks."""
    _write_golden(folder, faces, forms)
    calibrated_on = faces.calibrated_on
    if calibrated_on is not None:
        write_inputs(folder, contents.CALIBRATION_NAME, calibrated_on)
    _write_vacc(folder, report, forms, settings)
    (folder / contents.PATHS_SCRIPT_NAME).write_bytes(Path(absolute_paths.__file__).read_bytes())
    entries = [asdict(entry) for entry in forms.layers]
    layers = [{**entry.pop("layer"), **entry} for entry in entries]
    layer_map = {"counting": COUNTING, "layers": layers}
    _write_text(folder / contents.LAYER_MAP_NAME, json.dumps(layer_map, indent=1) + "\n")
    num_convolutions = sum(entry.layer.conv2d_index is not None for entry in forms.layers)
    _write_text(folder / contents.README_NAME, readme_text(report, num_convolutions))
    bundle_page(report, faces, forms).write(folder / contents.PAGE_NAME)
    _write_text(folder / contents.REPORT_NAME, json.dumps(asdict(report), indent=2) + "\n")


def _write_golden(folder: Path, faces: BundleFaces, forms: PrecisionForms) -> None:
    stems = write_inputs(folder, contents.GOLDEN_NAME, faces.golden)
    for precision, form in forms.golden_forms.items():
        golden = forms.restored[form][: len(stems)]  # the first ones
        for stem, image in zip(stems, golden, strict=True):
            path = folder / contents.GOLDEN_NAME / contents.OUTPUTS_NAME / precision / f"{stem}.npz"
            write_array(path, contents.OUTPUT_KEY, image[None].to(torch.float32).numpy())
    if faces.has_targets:
        write_images(folder / contents.GOLDEN_NAME / contents.TARGETS_NAME, stems, faces.golden.target)


def _write_vacc(folder: Path, report: ExportReport, forms: PrecisionForms, settings: ExportSettings) -> None:
    (folder / contents.VACC_NAME).mkdir()
    _write_text(folder / contents.VACC_NAME / contents.PREPROCESSING_NAME, preprocessing(report.resolution))
    for precision, checkpoint in (("fp16", TORCHSCRIPT_NAME), ("int8", contents.INTEGER_TORCHSCRIPT_NAME)):
        if precision in settings.precision:
            content = _compile_settings(precision, checkpoint, report, forms, settings)
            _write_text(folder / contents.VACC_NAME / f"{precision}.yaml", _explained(content, precision))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


COMPILE_OPTIONS = {
    "data_transport_mode": 1,
    "output_ddr": [-1, 1],
    "switch_lhs_rhs": True,
    "opt_level": 2,
    "data_type": 0,  # the zoo measured 25 dB with 0 and 18 dB with 2
}
_TRACES = {
    "fp16": "the float32 trace of the trained network",
    "int8": "the float32 trace that was made for int8: channels rescaled, biases corrected; not for fp16",
}
_COMMENTS = {
    "dtype": "of the trace; the precision on the card stands under backend",
    "output_ddr": "as the zoo has it, which does not say what it means; the one under quantize is a setting of its own",
    "data_type": "the zoo measured 25 dB with 0 and 18 dB with 2",
    "calibrate_mode": "where the ranges of activations end; the simulation took the same",
    "weight_scale": "steps of weights are powers of two, one for each output channel",
    "exclude_layers": "conv2d_index in layer_map.json of convolutions that stay in fp16; [] means that all are int8",
    "sampler": "get_data_num: how many faces lie in the folder",
    "process_ops": "pixels to [-1, 1]: (pixel / 255 - 0.5) / 0.5",
}
"""What a line of the settings means, by its key; written above it."""
CALIBRATION_NAMES = {"max": "max", "mse": "mse", "percentile": "percentile", "kl": "kl_divergence"}
"""Our words for ways to choose a range, to vamc's."""


def _compile_settings(
    precision: str, checkpoint: str, report: ExportReport, forms: PrecisionForms, settings: ExportSettings
) -> dict[str, Any]:
    """Settings of `vamc compile`, to be run in the bundle's folder, for a trace in it."""
    resolution = report.resolution
    frontend = {"type": "pytorch", "checkpoint": checkpoint, "dtype": "fp32"}
    backend: dict[str, Any] = {"type": "tvm_vacc", "dtype": precision, "compile": dict(COMPILE_OPTIONS)}
    content: dict[str, Any] = {
        "name": f"gpen_{resolution}_{precision}",
        "frontend": {**frontend, "shape": {INPUT_NAME: [1, 3, resolution, resolution]}},
        "backend": backend,
    }
    if precision == "int8":
        in_float = [entry.layer.conv2d_index for entry in forms.layers if entry.precision != "int8"]
        backend["quantize"] = {
            "calibrate_mode": CALIBRATION_NAMES[settings.calibration_mode],
            "quantize_per_channel": True,
            "weight_scale": "power2",
            "output_ddr": [-1],
            "exclude_layers": [number for number in in_float if number is not None],
            "quantize_mode": "manual",
        }
        content["dataset"] = {
            "type": "tvm",
            "path": f"{contents.CALIBRATION_NAME}/{contents.IMAGES_NAME}",
            "sampler": {"suffix": "png", "get_data_num": report.num_calibration},
            "process_ops": [
                {"type": "DecodeImage"},
                {"type": "Resize", "size": [resolution, resolution]},
                {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3},
                {"type": "ToTensor"},
            ],
        }
    return {**content, "workspace": {"path": "./deploy_weights/"}}


def _explained(content: dict[str, Any], precision: str) -> str:
    """Settings as YAML, with a comment above each line that has one."""
    lines = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100).splitlines()
    comments = dict(_COMMENTS) | {"checkpoint": _TRACES[precision]}
    explained = ["# For vamc compile, run in the folder of the bundle; keys as in the zoo's settings for GPEN."]
    for line in lines:
        key = line.strip().partition(":")[0]
        if key in comments:  # output_ddr is there twice: explained at the first
            explained.append(f"{line[: len(line) - len(line.lstrip())]}# {comments.pop(key)}")
        explained.append(line)
    return "\n".join(explained) + "\n"


def preprocessing(resolution: int) -> str:
    """Writes what the card does with an image before the network: uint8 RGB planes to float in [-1, 1]; JSON."""
    sides = {f"{which}image{side}": resolution for which in "IO" for side in ("Width", "Height")}
    pitches = {f"Iimage{side}Pitch": resolution for side in ("Width", "Height")}
    config = {
        "IimageFormat": "RGB_PLANAR",
        **sides,
        **pitches,
        "Mean": [0.5] * 3,
        "Std": [0.5] * 3,
        "NormaType": "DIV255_MINUSMEAN_DIVSTD",
        "ColorCvtCode": "NO_CHANGE",
        "ResizeType": "BILINEAR_CV",
    }
    return json.dumps({"OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR", "OpConfig": config}, indent=4) + "\n"
