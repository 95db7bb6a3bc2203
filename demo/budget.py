"""How many images each stage of the demo may train on, so that all of it ends within the minutes it was given."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.iterations import Iterations, Size, Stage
from models import Architecture
from system.atomic_file import write_atomically
from system.machine import Precision

SIZES: dict[Stage, Size] = {1: Size(Architecture(64, 1, 0.125), 16), 2: Size(Architecture(64, 1, 0.125), 8)}
"""Network and batch of configs/prior_64.yaml and configs/restoration_64.yaml."""
SHARE_OF_FIDELITY = 0.75
"""Of the images of stage 2: the discriminator begins after them."""
FIDELITY_FACTOR = 0.7
"""Stage 2 takes so much of the time of one whose discriminator learns from the start."""
START_SECONDS = 15.0
"""A training takes about so long before its first iteration."""
RESERVED_SECONDS = 2 * START_SECONDS + 40.0
"""For the start of two trainings, the imports of evaluation and export, and the page."""
RESERVED_IMAGES = 700
"""Evaluation, export and validation take about as long as so many images of stage 2."""
SHARE_OF_PRIOR = 0.12
"""Of the time for training: stage 1 shows that it works, stage 2 starts from the shipped prior."""
LOADER_FACTOR = 1.15
"""An iteration of a run takes so many times as long as one on ready images: faces are read, R1 is computed."""
SHORTEST, LONGEST_PRIOR, LONGEST_RESTORATION = 320, 6_400, 24_000
"""Images of a stage: less shows nothing, and more is not needed to show it."""
ROUNDED_TO = 160


@dataclass(frozen=True)
class Lengths:
    """Images of each stage; None while a length is not decided."""

    minutes: float
    faces: str
    prior_images: int | None = None
    restoration_images: int | None = None


@dataclass(frozen=True)
class Speed:
    """What an image of each stage costs on this machine."""

    prior_seconds: float
    restoration_seconds: float

    def after_prior(self, images_per_second: float) -> "Speed":
        """The same machine as stage 1 met it; what slows that one slows stage 2 as much, up to twice."""
        factor = min(max(1 / (images_per_second * self.prior_seconds), 1.0), 2.0)
        return Speed(self.prior_seconds * factor, self.restoration_seconds * factor)


def measure_speed(precision: Precision) -> Speed:
    """Times a few iterations of both stages in this process, in the precision that training will have."""
    return Speed(_seconds_per_image(1, precision), FIDELITY_FACTOR * _seconds_per_image(2, precision))


def _seconds_per_image(stage: Stage, precision: Precision) -> float:
    size = SIZES[stage]
    iterations = Iterations(stage, size, precision.name)  # type: ignore[arg-type]
    iterations.run()  # prepares kernels and memory
    start = time.perf_counter()
    for _ in range(3):
        iterations.run()
    return (time.perf_counter() - start) / 3 / size.batch_size * LOADER_FACTOR


def images_of_prior(seconds_left: float, speed: Speed) -> int:
    """Images of stage 1 that leave most of the time to stage 2."""
    free = seconds_left - RESERVED_SECONDS - RESERVED_IMAGES * speed.restoration_seconds
    return _rounded(SHARE_OF_PRIOR * free / speed.prior_seconds, LONGEST_PRIOR)


def images_of_restoration(seconds_left: float, speed: Speed, start_seconds: float = START_SECONDS) -> int:
    """Images of stage 2 that fit into what is left after stage 1, whose start took so long beside its images."""
    reserved = RESERVED_SECONDS - 2 * START_SECONDS + max(start_seconds, START_SECONDS)
    free = seconds_left - reserved - RESERVED_IMAGES * speed.restoration_seconds
    return _rounded(free / speed.restoration_seconds, LONGEST_RESTORATION)


def _rounded(images: float, longest: int) -> int:
    return max(SHORTEST, min(int(images) // ROUNDED_TO * ROUNDED_TO, longest))


def read_lengths(path: Path, asked: Lengths) -> Lengths:
    """The lengths of an interrupted demo, which goes on with the same ones, else those that are asked for. Raises
    ValueError where the demo was begun with other options, or the file is damaged."""
    if not path.is_file():
        return asked
    try:
        stored = Lengths(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove {path.parent} or choose another --output") from error
    for name, value in asdict(asked).items():
        if value is not None and value != getattr(stored, name):
            raise ValueError(
                f"{path.parent} holds a demo with {name} {getattr(stored, name)}, now {value}; continue it with the "
                "same options, remove the folder or choose another --output"
            )
    return stored


def decide(
    lengths: Lengths, path: Path, prior_images: int | None = None, restoration_images: int | None = None
) -> Lengths:
    """Fills in a length unless it is decided already, and stores it for the same command after an interruption."""
    decided = replace(
        lengths,
        prior_images=lengths.prior_images or prior_images,
        restoration_images=lengths.restoration_images or restoration_images,
    )
    write_atomically(path, json.dumps(asdict(decided), indent=2) + "\n")
    return decided
