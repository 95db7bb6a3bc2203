"""Faces drawn by a prior, as PNG files: python -m scripts.render_faces --checkpoint PRIOR --output FOLDER."""

import argparse
from pathlib import Path

from inference.drawing import render_faces
from system import command_line


def main() -> None:
    """Reads the command line and draws."""
    parser = argparse.ArgumentParser(prog="python -m scripts.render_faces", description="Draws faces with a prior.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="prior or GPEN checkpoint")
    parser.add_argument("--output", type=Path, required=True, help="folder for 000000.png, 000001.png, …")
    parser.add_argument("--number", type=int, default=64, help="how many faces (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the latents (default: 0)")
    arguments = parser.parse_args()
    render_faces(arguments.checkpoint, arguments.output, arguments.number, arguments.seed)
    print(f"{arguments.number} faces in {arguments.output}")


if __name__ == "__main__":
    command_line.run(main)
