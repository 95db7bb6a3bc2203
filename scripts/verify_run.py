"""Repeats the beginning of a run and compares it bit for bit: `python -m scripts.verify_run RUN --images N`."""

import argparse
import sys
from pathlib import Path

from system import command_line
from train.run.repetition import verify


def main() -> None:
    """Trains in a temporary folder and prints what is equal, what differs and what may have caused it."""
    parser = argparse.ArgumentParser(prog="python -m scripts.verify_run", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--images", type=int, help="repeat so many images, default: up to the first row of train.csv")
    options = parser.parse_args()
    if not verify(options.run, options.images):
        sys.exit(1)


if __name__ == "__main__":
    command_line.conclude(main)
