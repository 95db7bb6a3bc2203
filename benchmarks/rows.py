"""The rows of the benchmark's table: which work is compared with which, timed, printed and written."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from benchmarks import exported_forms as inference
from benchmarks import faces, growth, iterations
from benchmarks.contenders import Contender, Timing, time_in_turns
from benchmarks.exported_forms import Form
from benchmarks.iterations import Size, Stage
from data.faces.files import Pictures
from inference.drawing import SHIPPED_PRIOR, render_faces
from models import Architecture
from system import command_line, machine
from system.atomic_file import write_atomically
from system.live_progress import live_progress
from system.machine import FLOAT32, native_precisions
from system.wording import counted

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
    """What the rows may use."""

    num_threads: int
    """OpenMP threads of every contender."""
    faces: Path | None
    """Folder of photographs for the loader; None draws some with the shipped prior."""


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
        work, threads = (SMALL, native_precisions()[-1], LOADER_ITERATIONS), machine.num_threads
        yield Row(
            f"stage 2 iteration without lazy terms, {SMALL}",
            [
                Contender("ready tensors", faces.training, work, threads),
                Contender("data loader, 2 workers", faces.training, (*work, folder, 2), threads),
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
    if machine.faces is not None:
        Pictures().open(machine.faces)  # complains here rather than in a contender's process
        yield machine.faces
        return
    with tempfile.TemporaryDirectory() as folder:
        render_faces(SHIPPED_PRIOR, Path(folder), 512, seed=0)
        yield Path(folder)


PACKAGES = ("torch", "pytorch-lightning", "kornia", "numpy", "opencv-python-headless")


def time_rows(kinds: Sequence[str], machine_used: Machine, num_rounds: int, output: Path | None) -> None:
    """Times rows and prints them one by one.

    Args:
        kinds: Of rows; empty for all.
        machine_used: Threads of each contender, and photographs for `loading`.
        num_rounds: Timed rounds.
        output: JSON file that gets the figures after every row, so that nothing is lost; None for none.
    """
    here = begin(machine_used.num_threads)
    results = []
    for kind in kinds or ROWS:
        for row in ROWS[kind](machine_used):
            timings = time_row(row, num_rounds)
            figures = [{**timing._asdict(), "median": timing.median} for timing in timings]
            results.append({"row": row.name, "contenders": figures})
            if output is not None:
                write_atomically(output, json.dumps({"machine": here, "rows": results}, indent=2) + "\n")


def draw_growth(num_threads: int, num_rounds: int, output: Path) -> None:
    """Times an iteration over sizes and threads and draws it as an SVG."""
    begin(num_threads)
    points = []
    for size in growth.sizes():
        contenders = growth.contenders(size, num_threads)
        row = Row(f"stage 2 iteration in {machine.native_precisions()[-1]}, {size}", contenders)
        timings = time_row(row, num_rounds)
        points += [growth.Point(size, c.num_threads, t) for c, t in zip(contenders, timings, strict=True)]
    write_atomically(output, growth.plot(points))


def begin(num_threads: int) -> dict[str, Any]:
    """Prints what the figures depend on, and what is left out."""
    if machine.BF16 not in machine.native_precisions():
        print("this processor would emulate bf16: rows in bf16 are left out")
    versions = machine.versions(PACKAGES)
    here = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": machine.processor(),
        "threads": num_threads,
        "versions": versions,
    }
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{here['processor']}, {counted(num_threads, 'thread')}, {named}", flush=True)
    return here


def show(name: str, timings: list[Timing]) -> None:
    """Prints a row of the benchmark as a table of its contenders."""
    rows = []
    for timing in timings:
        unit, factor = ("s", 1.0) if timing.median >= 1 else ("ms", 1000.0)
        rows.append(
            [
                timing.name,
                f"{timing.median * factor:.3g} {unit}",
                f"±{timing.spread:.0%}",
                f"{timings[0].median / timing.median:.2f}",
                f"{timing.memory_bytes / 2**20:,.0f} MiB",
            ]
        )
    header = ("contender", "median", "spread", f"times faster than {timings[0].name}", "memory")
    command_line.print_table(name, header, rows)


def time_row(row: Row, num_rounds: int) -> list[Timing]:
    """Times the contenders of a row and prints them."""
    with live_progress(row.name) as on_step:
        timings = time_in_turns(row.contenders, num_rounds, on_step)
    show(row.name, timings)
    return timings
