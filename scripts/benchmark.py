"""Speed, memory and time to quality as ratios within one run: python -m scripts.benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.faces.files import Pictures, check_faces_exist
from system import command_line, machine
from system.paths import refuse_existing

Kind = Literal["training", "inference", "degradation", "loading", "export"]


@dataclass(frozen=True)
class TimeToQuality:
    """Time to quality."""

    time_to_quality: Path | None = None
    """Train as the textbook does by the released recipe and as we do by configs/recipes/fidelity.yaml, on --faces;
    draw PSNR, SSIM, identity and fd_lite0 over processor time into this SVG file, and end."""
    validation_faces: Path | None = None
    """Faces of other people; the first 100, degraded by `small`, are restored."""
    minutes: float = 25.0
    """Of processor time for the textbook; a sixteenth of it is ours."""
    pictures: Pictures = Pictures()


def main(
    rows: tuple[Kind, ...] = (),
    /,
    rounds: int = 5,
    threads: int | None = None,
    faces: Path | None = None,
    output: Path | None = None,
    growth: Path | None = None,
    overwrite: bool = False,
    quality: TimeToQuality = TimeToQuality(),
) -> None:
    """Times this project beside the textbook formulation that public code uses and beside its own convolutions alone.

    Contenders run in processes of their own and in turns; the table shows medians. docs/performance.md explains it. The
    default takes about half an hour on two cores.

    Args:
        rows: Which kinds; none for all.
        rounds: Timed rounds of each contender.
        threads: Of each contender; null for all cores.
        faces: Photographs for `loading`; null for faces drawn by the shipped prior. For --time_to_quality
            aligned faces.
        output: JSON file for the figures.
        growth: Draw time and memory over size into this SVG file, and end.
        overwrite: Replace the files of --output, --growth and --time_to_quality.
    """
    threads = machine.num_cores() if threads is None else threads
    if min(rounds, threads) < 1:
        raise ValueError(f"--rounds and --threads must be at least 1, got {rounds} and {threads}")
    if not 0 < quality.minutes < float("inf"):
        raise ValueError(f"--minutes must be above 0, got {quality.minutes:g}")
    for path in (output, growth, quality.time_to_quality):
        if path is not None:
            refuse_existing(path, overwrite)
    check_faces_exist(faces, quality.validation_faces)
    if quality.time_to_quality is not None:
        if faces is None or quality.validation_faces is None:
            raise ValueError("--time_to_quality needs --faces and --validation_faces, got none; give both")
        import torch

        from benchmarks.time_to_quality import draw_time_to_quality

        torch.set_num_threads(threads)
        draw_time_to_quality(
            faces, quality.validation_faces, quality.minutes, quality.time_to_quality, output, quality.pictures
        )
        return
    from benchmarks.rows import Machine, draw_growth, time_rows

    if growth is not None:
        draw_growth(threads, rounds, growth)
        return
    time_rows(rows, Machine(threads, faces), rounds, output)


if __name__ == "__main__":
    command_line.run(main)
