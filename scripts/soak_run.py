"""Kills runs at random moments and compares them with others: `python -m scripts.soak_run --output FOLDER`."""

from pathlib import Path
from typing import Literal

from system import command_line


def main(
    output: Path,
    kills: int = 10,
    images_between: int = 256,
    stages: tuple[Literal["prior", "restoration"], ...] = ("prior", "restoration"),
    seed: int = 0,
) -> int:
    """Kills runs of both stages at random moments until they are done, and compares them with runs nobody killed.

    Draws faces, trains a tiny prior and a tiny restorer (32 pixels, worker processes, bf16 where it is native, lazy
    terms, gradient accumulation) once undisturbed and once with SIGKILLs, of which every third waits for the write of a
    checkpoint. Exit code 1 where a loss, a tensor or a picture differs in any bit.

    Args:
        output: New folder for faces and runs.
        kills: SIGKILLs for each stage.
        images_between: Images a run gets on, on average, before a kill.
        stages: Which to soak.
        seed: Of the moments of the kills.
    """
    from train.run.soak import Soak, soak_stages

    return 0 if soak_stages(Soak(output, kills, images_between, seed), stages) else 1


if __name__ == "__main__":
    command_line.run(main)
