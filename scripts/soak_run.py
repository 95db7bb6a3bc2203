"""Kills runs at random moments and compares them with others: `python -m scripts.soak_run --output FOLDER`."""

from typing import Literal

from system import command_line
from train.run.settings import Soak


def main(soak: Soak, stages: tuple[Literal["prior", "restoration"], ...] = ("prior", "restoration")) -> int:
    """Kills runs of both stages at random moments until they are done, and compares them with runs nobody killed.

    Draws faces, trains a tiny prior and a tiny restorer (32 pixels, worker processes, bf16 where it is native, lazy
    terms, gradient accumulation) once undisturbed and once with SIGKILLs, of which every third waits for the write of a
    checkpoint. Exit code 1 where a loss, a tensor or a picture differs in any bit.

    Args:
        soak: What is killed how often.
        stages: Which to soak.
    """
    from train.run.soak import soak_stages

    return 0 if soak_stages(soak, stages) else 1


if __name__ == "__main__":
    command_line.run(main)
