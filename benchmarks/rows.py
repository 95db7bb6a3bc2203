"""Which work is compared with which: the rows of the table."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

from benchmarks import exported_forms as inference
from benchmarks import faces, iterations
from benchmarks.contenders import Contender
from benchmarks.exported_forms import Form
from benchmarks.iterations import Size, Stage
from data.faces.files import open_faces
from inference.drawing import SHIPPED_PRIOR, render_faces
from models import Architecture
from system.machine import FLOAT32, native_precisions

LOADER_ITERATIONS = 20

SMALL = Size(Architecture(64, 1, 0.125), 16)
MEDIUM = Size(Architecture(256, 1, 0.5), 4)
LARGE = Architecture(512, 2, 1.0)
"""The public GPEN-BFR-512."""


class Row(NamedTuple):
    """Contenders for the same work; the first is the one the others are compared with."""

    name: str
    contenders: list[Contender]


@dataclass(frozen=True)
class Machine:
    """What the rows may use.

    Args:
        num_threads: OpenMP threads of every contender.
        faces: Folder of photographs for the loader; None draws some with the shipped prior.
    """

    num_threads: int
    faces: Path | None


def training_rows(machine: Machine) -> Iterator[Row]:
    """One iteration of both stages, lazy terms amortised."""
    stages: tuple[Stage, ...] = (2, 1)
    for stage in stages:
        for size in (MEDIUM, SMALL):
            yield Row(f"stage {stage} iteration, {size}", _forms(machine, iterations, (stage, size)))


def inference_rows(machine: Machine) -> Iterator[Row]:
    """Restoration of one image and of eight."""
    for architecture in (MEDIUM.architecture, LARGE):
        for batch_size in (1, 8):
            size = Size(architecture, batch_size)
            yield Row(f"inference, {size}", _forms(machine, inference, (size,)))


def degradation_rows(machine: Machine) -> Iterator[Row]:
    """Degrading a batch, on one thread beside OpenCV on one core."""
    for size in (SMALL, MEDIUM, Size(LARGE, 1)):
        ours = Contender("ours", faces.degrading, (size, "released"), 1)
        opencv = Contender("OpenCV", faces.degrading_with_opencv, (size, "released"), 1)
        resolution = size.architecture.resolution
        yield Row(f"degradation released, {resolution} px, batch {size.batch_size}, one thread", [opencv, ours])


def loading_rows(machine: Machine) -> Iterator[Row]:
    """Training at 64 pixels on faces that have to be read, beside ready tensors."""
    with _photographs(machine) as folder:
        precision = native_precisions()[-1]
        ready = (SMALL, precision, LOADER_ITERATIONS)
        read = (SMALL, precision, folder, 2, LOADER_ITERATIONS)
        yield Row(
            f"stage 2 iteration without lazy terms, {SMALL}",
            [
                Contender("ready tensors", faces.training_on_ready_faces, ready, machine.num_threads),
                Contender("data loader, 2 workers", faces.training_on_read_faces, read, machine.num_threads),
            ],
        )


def export_rows(machine: Machine) -> Iterator[Row]:
    """Restoration of one image by the exported forms."""
    for architecture in (MEDIUM.architecture, LARGE):
        size, threads = Size(architecture, 1), machine.num_threads
        slow = Contender("textbook eager", inference.textbook, (size,), threads, tuned_memory=False)
        forms = [
            Contender(form, inference.exported, (size, form, threads), threads, tuned_memory=False)
            for form in get_args(Form)
        ]
        yield Row(f"export, {size}", [slow, *forms])


ROWS: dict[str, Callable[[Machine], Iterator[Row]]] = {
    "training": training_rows,
    "inference": inference_rows,
    "degradation": degradation_rows,
    "loading": loading_rows,
    "export": export_rows,
}


def _forms(machine: Machine, package: object, arguments: tuple[object, ...]) -> list[Contender]:
    """The textbook, ours and the floor of a module that has all three, in precisions that are not emulated here."""
    threads = machine.num_threads
    textbook, ours, floor = (getattr(package, name) for name in ("textbook", "ours", "floor"))
    contenders = [Contender("textbook float32", textbook, arguments, threads, tuned_memory=False)]
    for precision in native_precisions():
        name = "float32" if precision == FLOAT32 else "bf16"
        contenders.append(Contender(f"ours {name}", ours, (*arguments, precision), threads))
        contenders.append(Contender(f"convolutions {name}", floor, (*arguments, precision), threads))
    return contenders


@contextmanager
def _photographs(machine: Machine) -> Iterator[Path]:
    """The user's, or faces that the shipped prior draws."""
    if machine.faces is not None:
        open_faces(machine.faces)  # complains here rather than in a contender's process
        yield machine.faces
        return
    with tempfile.TemporaryDirectory() as folder:
        render_faces(SHIPPED_PRIOR, Path(folder), 512, seed=0)
        yield Path(folder)
