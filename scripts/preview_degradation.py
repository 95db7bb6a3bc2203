"""Shows what a degradation preset does: python -m scripts.preview_degradation --faces FOLDER --output preview.png."""

import argparse
from pathlib import Path

import torch

from data.dataset import FaceImages
from data.degradation.parameters import sample_parameters
from data.degradation.presets import load_preset, preset_names
from data.degradation.synthesis import degrade
from data.faces.files import open_faces
from data.ranges import uint8_to_model
from evaluation.reports.degradation_preview import draw_preview
from system import command_line
from system.atomic_file import write_atomically


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.preview_degradation",
        description="Draws faces over their degraded versions, the sampled parameters below each pair (lengths in "
        "pixels of the shown resolution). Face k gets what image k of a training run with this seed would get.",
    )
    parser.add_argument("--faces", type=Path, required=True, help="folder (recursive) or uncompressed zip of faces")
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument(
        "--degradation",
        default="released",
        help=f"preset ({', '.join(preset_names())}) or path of a YAML file like them (default: released)",
    )
    parser.add_argument("--resolution", type=int, default=512, help="pixels the faces are resized to (default: 512)")
    parser.add_argument("--num-faces", type=int, default=8, help="how many faces, the first by name (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the degradation (default: 0)")
    return parser.parse_args()


def main() -> None:
    """Degrades the first faces of the folder and writes the picture."""
    arguments = parse_arguments()
    if arguments.num_faces < 1:
        raise ValueError(f"--num-faces must be at least 1, got {arguments.num_faces}")
    if arguments.output.suffix.lower() != ".png":
        raise ValueError(f"--output must be a file that ends in .png, got {arguments.output}")
    command_line.refuse_existing(arguments.output, arguments.overwrite)
    ranges = load_preset(arguments.degradation)
    faces = FaceImages(open_faces(arguments.faces), arguments.resolution)
    indices = range(min(arguments.num_faces, len(faces)))
    target = torch.stack([uint8_to_model(faces[index]) for index in indices])  # [N, 3, R, R]
    parameters = [sample_parameters(ranges, arguments.seed, index, arguments.resolution) for index in indices]
    degraded, target = degrade(target, parameters)
    title = f"{arguments.degradation} at {arguments.resolution} pixels, seed {arguments.seed}"
    write_atomically(arguments.output, draw_preview(target, degraded, parameters, title))
    print(f"{len(indices)} faces with the degradation {arguments.degradation} in {arguments.output}")


if __name__ == "__main__":
    command_line.run(main)
