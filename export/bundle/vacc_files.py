"""Files for the VACC compiler and runtime: what `vamc compile` and `vamp` read.

Written from the public model zoo Vastai/VastModelZOO (cv/super_resolution/gpen); the tools themselves could not be run.
"""

import json
from collections.abc import Sequence
from typing import Any

import yaml

from export.formats.artefacts import INPUT_NAME

COMPILE_OPTIONS = {
    "data_transport_mode": 1,
    "output_ddr": [-1, 1],
    "switch_lhs_rhs": True,
    "opt_level": 2,
    "data_type": 0,  # the zoo measured 25 dB with 0 and 18 dB with 2
}
CALIBRATION_NAMES = {"max": "max", "mse": "mse", "percentile": "percentile", "kl": "kl_divergence"}
"""Our words for ways to choose a range, to vamc's."""


def compile_settings(
    name: str,
    precision: str,
    checkpoint: str,
    resolution: int,
    calibration: str = "mse",
    excluded: Sequence[int] = (),
    images_folder: str | None = None,
    num_images: int = 0,
) -> str:
    """Writes the settings of `vamc compile`, to be run in the bundle's folder.

    Args:
        name: Of the compiled model.
        precision: `fp16` or `int8`.
        checkpoint: TorchScript file, relative to the bundle.
        resolution: R in pixels.
        calibration: How int8 ranges are chosen, a key of `CALIBRATION_NAMES`.
        excluded: Numbers of the convolutions that stay in fp16, see `export.layer_map`.
        images_folder: PNG files to calibrate on, relative to the bundle; needed for int8.
        num_images: How many they are.

    Returns:
        YAML.
    """
    shape = [1, 3, resolution, resolution]
    settings: dict[str, Any] = {
        "name": name,
        "frontend": {"type": "pytorch", "checkpoint": checkpoint, "dtype": "fp32", "shape": {INPUT_NAME: shape}},
        "backend": {"type": "tvm_vacc", "dtype": precision, "compile": dict(COMPILE_OPTIONS)},
    }
    if precision == "int8":
        settings["backend"]["quantize"] = {
            "calibrate_mode": CALIBRATION_NAMES[calibration],
            "quantize_per_channel": True,
            "weight_scale": "power2",
            "output_ddr": [-1],
            "exclude_layers": list(excluded),
            "quantize_mode": "manual",
        }
        settings["dataset"] = _dataset(images_folder, num_images, resolution)
    settings["workspace"] = {"path": "./deploy_weights/"}
    return yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=100)


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


def _dataset(folder: str | None, num_images: int, resolution: int) -> dict[str, Any]:
    """Calibration faces, and the way from a file to the network's input."""
    if folder is None or num_images < 1:
        raise ValueError(f"int8 needs a folder with calibration faces, got {folder} with {num_images}")
    return {
        "type": "tvm",
        "path": folder,
        "sampler": {"suffix": "png", "get_data_num": num_images},
        "process_ops": [
            {"type": "DecodeImage"},
            {"type": "Resize", "size": [resolution, resolution]},
            {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3},
            {"type": "ToTensor"},
        ],
    }
