"""Speed and memory as ratios within one run: python -m scripts.benchmark."""

from pathlib import Path
from typing import Literal

from system import command_line, machine

Kind = Literal["training", "inference", "degradation", "loading", "export"]


def main(
    rows: tuple[Kind, ...] = (),
    /,
    rounds: int = 5,
    threads: int | None = None,
    faces: Path | None = None,
    output: Path | None = None,
    growth: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Times this project beside the textbook formulation that public code uses and beside its own convolutions alone.

    Contenders run in processes of their own and in turns; the table shows medians. docs/performance.md explains it. The
    default takes about half an hour on two cores.

    Args:
        rows: Which kinds; none for all.
        rounds: Timed rounds of each contender.
        threads: Of each contender; null for all cores.
        faces: Photographs for `loading`; null for faces drawn by the shipped prior.
        output: JSON file for the figures.
        growth: Draw time and memory over size into this SVG file, and end.
        overwrite: Replace the files of --output and --growth.
    """
    threads = machine.num_cores() if threads is None else threads
    if min(rounds, threads) < 1:
        raise ValueError(f"--rounds and --threads must be at least 1, got {rounds} and {threads}")
    for path in (output, growth):
        if path is not None:
            command_line.refuse_existing(path, overwrite)
    from benchmarks.rows import Machine, draw_growth, time_rows

    if growth is not None:
        draw_growth(threads, rounds, growth)
        return
    time_rows(rows, Machine(threads, faces), rounds, output)


if __name__ == "__main__":
    command_line.run(main)
