"""Kills runs of both stages at random moments until they are done, and compares them with runs that nobody killed.

`python -m scripts.soak_run --output FOLDER` draws faces, trains a tiny prior and a tiny restorer (32 pixels, worker
processes, bf16 where it is native, lazy terms, gradient accumulation) once undisturbed and once with SIGKILLs, of which
every third waits for the write of a checkpoint. Exit code 1 where a loss, a tensor or a picture differs in any bit.
"""

import argparse
import sys
from pathlib import Path

from system import command_line
from train.run.soak import STAGES, Soak, soak_stages


def main() -> None:
    """Soaks both stages and prints what happened."""
    parser = argparse.ArgumentParser(prog="python -m scripts.soak_run", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="new folder for faces and runs")
    parser.add_argument("--kills", type=int, default=10, help="SIGKILLs for each stage")
    parser.add_argument(
        "--images-between", type=int, default=256, help="images a run gets on, on average, before a kill"
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="which to soak")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    soak = Soak(options.output, options.kills, options.images_between, options.seed)
    if not soak_stages(soak, tuple(options.stages)):
        sys.exit(1)


if __name__ == "__main__":
    command_line.conclude(main)
