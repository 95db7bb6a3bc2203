"""Faces drawn by a prior, as PNG files: python -m scripts.render_faces --checkpoint PRIOR --output FOLDER."""

from pathlib import Path

from system import command_line
from system.paths import check_there
from system.wording import counted


def main(checkpoint: Path, output: Path, number: int = 64, seed: int = 0, truncation: float = 1.0) -> None:
    """Draws faces with a prior.

    Args:
        checkpoint: Prior or GPEN checkpoint.
        output: Folder for 000000.png, 000001.png, …
        number: How many faces.
        seed: Of the latents.
        truncation: From 0, the mean face alone, to 1, all faces; 0.7 leaves most of the odd ones out.
    """
    check_there(checkpoint, "checkpoint")
    from inference.drawing import render_faces

    with command_line.progress_bar("drawing faces", number) as show:
        render_faces(checkpoint, output, number, seed, show, truncation)
    command_line.print_names(f"{counted(number, 'face')} in {output}")


if __name__ == "__main__":
    command_line.run(main)
