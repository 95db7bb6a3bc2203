"""A checkpoint in another format: python -m scripts.convert_checkpoint X --to public --output GPEN.pth."""

from pathlib import Path
from typing import Literal

from data.faces.files import check_faces_exist
from export.formats.options import ConversionSettings
from system import command_line
from system.paths import check_there, refuse_existing


def main(
    checkpoint: Path,
    /,
    to: Literal["public", "release", "facefusion"],
    output: Path,
    settings: ConversionSettings,
    overwrite: bool = False,
) -> None:
    """Writes a restoration network in the format of another program and compares what is read back with it.

    Args:
        checkpoint: Any file or run's folder with a restoration network, of this project or public.
        to: The public code's state dict (.pth), a release of this project (.safetensors) or ONNX (.onnx) as facefusion
            and restoration tools take it: float32 `input` [1, 3, R, R], RGB in [-1, 1], to one output.
        output: File to write.
        overwrite: Replace the file.
    """
    refuse_existing(output, overwrite)
    check_there(checkpoint, "checkpoint")
    check_faces_exist(settings.faces)
    from export.formats.conversion import convert_checkpoint

    command_line.print_names(convert_checkpoint(checkpoint, to, output, settings))


if __name__ == "__main__":
    command_line.run(main)
