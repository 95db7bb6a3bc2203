"""Options of every command that restores faces, and the restorer they name."""

import argparse
from pathlib import Path

from inference.restorers import Restorer, default_device, load_restorer

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "weights" / "gpen_64.safetensors"
"""The restorer that comes with the repository."""


def add_restorer_options(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint, --batch-size and --device."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=DEFAULT_CHECKPOINT,
        help="release file, Lightning checkpoint, public GPEN checkpoint, TorchScript or ONNX file; its resolution is "
        f"used (default: the shipped weights/{DEFAULT_CHECKPOINT.name})",
    )
    parser.add_argument("--batch-size", type=int, default=16, help="faces restored at once (default: 16)")
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one, for ONNX the CPU)")


def open_restorer(arguments: argparse.Namespace) -> Restorer:
    """Loads the restorer that the options name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is something else, or the device cannot be used.
    """
    return load_restorer(arguments.checkpoint, arguments.device or default_device(arguments.checkpoint))
