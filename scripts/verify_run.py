"""Repeats the beginning of a run and compares it bit for bit: `python -m scripts.verify_run RUN --images N`."""

from pathlib import Path

from system import command_line
from system.paths import check_there


def main(run: Path, /, images: int | None = None) -> int:
    """Repeats the beginning of a run in a temporary folder and says what is equal, what differs and what may be why.

    Exit code 0: equal bit for bit; 1: something differs; 2: the run cannot be repeated.

    Args:
        run: Folder of a run.
        images: Repeat so many images; null for those up to the first row of train.csv.
    """
    check_there(run, "run")
    from train.run.repetition import verify

    return 0 if verify(run, images) else 1


if __name__ == "__main__":
    command_line.run(main)
