"""The rows of the benchmark's table: which work is compared with which, timed, printed and written; and how time and
memory of an iteration grow with resolution, batch and threads."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from benchmarks import exported_forms as inference
from benchmarks import faces, iterations
from benchmarks.contenders import Contender, Timing, time_in_turns
from benchmarks.exported_forms import Form
from benchmarks.iterations import Size, Stage
from data.faces.files import Pictures
from evaluation.reports.charts import BLUE, VERMILION, svg_of
from inference.drawing import SHIPPED_PRIOR, render_faces
from models import Architecture
from system import command_line, machine
from system.atomic_file import write_atomically
from system.live_progress import live_progress
from system.machine import BF16, FLOAT32, native_precisions
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
        ready = Contender("ready tensors", faces.training, work, threads)
        loader = Contender("data loader, 2 workers", faces.training, (*work, folder, 2), threads)
        yield Row(f"stage 2 iteration without lazy terms, {SMALL}", [ready, loader])


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
    """Times rows of some kinds (empty for all) and prints them one by one; a JSON file gets the figures after every
    row, so that nothing is lost."""
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
    for size in growth_sizes():
        contenders = growth_contenders(size, num_threads)
        row = Row(f"stage 2 iteration in {native_precisions()[-1]}, {size}", contenders)
        timings = time_row(row, num_rounds)
        points += [Point(size, c.num_threads, t) for c, t in zip(contenders, timings, strict=True)]
    write_atomically(output, plot_growth(points))


def begin(num_threads: int) -> dict[str, Any]:
    """Prints what the figures depend on, and what is left out."""
    if BF16 not in native_precisions():
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
        time, gain = f"{timing.median * factor:.3g} {unit}", f"{timings[0].median / timing.median:.2f}"
        rows.append([timing.name, time, f"±{timing.spread:.0%}", gain, f"{timing.memory_bytes / 2**20:,.0f} MiB"])
    header = ("contender", "median", "spread", f"times faster than {timings[0].name}", "memory")
    command_line.print_table(name, header, rows)


def time_row(row: Row, num_rounds: int) -> list[Timing]:
    """Times the contenders of a row and prints them."""
    with live_progress(row.name) as on_step:
        timings = time_in_turns(row.contenders, num_rounds, on_step)
    show(row.name, timings)
    return timings


RESOLUTIONS = (64, 128, 256, 512)
BATCH_SIZES = (1, 2, 4, 8, 16)
BATCH_AT_RESOLUTIONS, RESOLUTION_AT_BATCHES = 4, 128
COLOURS = (BLUE, VERMILION)


@dataclass(frozen=True)
class Point:
    """One measurement."""

    size: Size
    """With the channels of BFR-256."""
    num_threads: int
    timing: Timing
    """Of stage 2 in the last of the machine's native precisions."""


def growth_sizes() -> list[Size]:
    """All resolutions at one batch and all batches at one resolution, without doubles."""
    pairs = [(r, BATCH_AT_RESOLUTIONS) for r in RESOLUTIONS] + [(RESOLUTION_AT_BATCHES, n) for n in BATCH_SIZES]
    return [Size(Architecture(resolution, 1, 0.5), number) for resolution, number in dict.fromkeys(pairs)]


def growth_contenders(size: Size, most_threads: int) -> list[Contender]:
    """An iteration of stage 2 with one thread and with all, in bf16 where that is native."""
    work = (2, size, native_precisions()[-1])
    return [
        Contender(counted(threads, "thread"), iterations.ours, work, threads) for threads in sorted({1, most_threads})
    ]


def plot_growth(points: Sequence[Point]) -> bytes:
    """Draws seconds and memory over resolution and over batch as an SVG file."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots(2, 2)
    sweeps = (
        (0, "resolution in pixels (batch 4)", lambda s: s.architecture.resolution, lambda s: s.batch_size == 4),
        (1, "batch (128 pixels)", lambda s: s.batch_size, lambda s: s.architecture.resolution == 128),
    )
    for column, label, of, belongs in sweeps:
        for index, threads in enumerate(sorted({p.num_threads for p in points})):
            chosen = sorted(
                (p for p in points if p.num_threads == threads and belongs(p.size)), key=lambda p: of(p.size)
            )
            x = [of(p.size) for p in chosen]
            style = {"color": COLOURS[index], "marker": "os"[index], "label": counted(threads, "thread")}
            axes[0, column].plot(x, [p.timing.median for p in chosen], **style)
            axes[1, column].plot(x, [p.timing.memory_bytes / 2**30 for p in chosen], **style)
        for row, unit in enumerate(("seconds per iteration", "memory in GiB")):
            _label(axes[row, column], label, unit, sorted({of(p.size) for p in points if belongs(p.size)}))
    axes[0, 0].legend(frameon=False)
    return svg_of(figure)


def _label(axis: Axes, x_label: str, y_label: str, ticks: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=10)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # decades alone leave a short axis without numbers
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(alpha=0.3)
