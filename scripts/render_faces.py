"""Faces drawn by a prior, as PNG files: python -m scripts.render_faces --checkpoint PRIOR --output FOLDER."""

import argparse
from pathlib import Path

from PIL import Image

import command_line
from atomic_file import replacing
from data.ranges import model_to_uint8
from models import load_prior
from train.prior_pictures import sample

BATCH_SIZE = 32


def render_faces(checkpoint: Path, folder: Path, number: int, seed: int) -> None:
    """Draws faces that are not in the folder yet.

    Args:
        checkpoint: Prior, or GPEN whose decoder draws.
        folder: Gets 000000.png, 000001.png, …
        number: How many in all.
        seed: Of latents and noise; the i-th face depends on (seed, i) alone.
    """
    missing = [index for index in range(number) if not (folder / f"{index:06}.png").is_file()]
    if not missing:
        return
    prior = load_prior(checkpoint)
    for first in range(missing[0], number, BATCH_SIZE):
        indices = range(first, min(first + BATCH_SIZE, number))
        images = model_to_uint8(sample(prior, seed, indices, "rendered faces")).permute(0, 2, 3, 1).numpy()
        for index, image in zip(indices, images, strict=True):
            if index not in missing:
                continue
            with replacing(folder / f"{index:06}.png") as temporary:
                Image.fromarray(image).save(temporary, format="PNG")


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
