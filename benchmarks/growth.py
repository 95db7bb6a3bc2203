"""How time and memory of an iteration grow with resolution, batch and threads."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from benchmarks import iterations
from benchmarks.contenders import Contender, Timing
from benchmarks.iterations import Size
from evaluation.reports.charts import BLUE, VERMILION, svg_of
from models import Architecture
from system.machine import native_precisions
from system.wording import counted

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


def sizes() -> list[Size]:
    """All resolutions at one batch and all batches at one resolution, without doubles."""
    pairs = [(r, BATCH_AT_RESOLUTIONS) for r in RESOLUTIONS] + [(RESOLUTION_AT_BATCHES, n) for n in BATCH_SIZES]
    return [Size(Architecture(resolution, 1, 0.5), number) for resolution, number in dict.fromkeys(pairs)]


def contenders(size: Size, most_threads: int) -> list[Contender]:
    """An iteration of stage 2 with one thread and with all, in bf16 where that is native."""
    work = (2, size, native_precisions()[-1])
    return [
        Contender(counted(threads, "thread"), iterations.ours, work, threads) for threads in sorted({1, most_threads})
    ]


def plot(points: Sequence[Point]) -> bytes:
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
