"""The benchmark's rows, timed, printed and written."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import growth
from benchmarks.contenders import Timing, time_in_turns
from benchmarks.rows import ROWS, Machine, Row
from system import machine
from system.atomic_file import write_atomically
from system.live_progress import live_progress

PACKAGES = ("torch", "pytorch-lightning", "kornia", "numpy", "opencv-python-headless")


def time_rows(kinds: Sequence[str], machine_used: Machine, num_rounds: int, output: Path | None) -> None:
    """Times rows and prints them one by one.

    Args:
        kinds: Of rows; empty for all.
        machine_used: Threads of each contender, and photographs for `loading`.
        num_rounds: Timed rounds.
        output: JSON file that gets the figures after every row, so that nothing is lost; None for none.
    """
    console, here = begin(machine_used.num_threads)
    results = []
    for kind in kinds or ROWS:
        for row in ROWS[kind](machine_used):
            timings = time_row(console, row, num_rounds)
            figures = [{**timing._asdict(), "median": timing.median} for timing in timings]
            results.append({"row": row.name, "contenders": figures})
            if output is not None:
                write_atomically(output, json.dumps({"machine": here, "rows": results}, indent=2) + "\n")


def draw_growth(num_threads: int, num_rounds: int, output: Path) -> None:
    """Times an iteration over sizes and threads and draws it as an SVG."""
    console, _ = begin(num_threads)
    points = []
    for size in growth.sizes():
        contenders = growth.contenders(size, num_threads)
        row = Row(f"stage 2 iteration in {machine.native_precisions()[-1]}, {size}", contenders)
        timings = time_row(console, row, num_rounds)
        points += [growth.Point(size, c.num_threads, t) for c, t in zip(contenders, timings, strict=True)]
    write_atomically(output, growth.plot(points))


def begin(num_threads: int) -> tuple[Console, dict[str, Any]]:
    """Prints what the figures depend on, and what is left out."""
    console, here = Console(), describe_machine(num_threads)
    if machine.BF16 not in machine.native_precisions():
        console.print("this processor would emulate bf16: rows in bf16 are left out")
    console.print(f"{here['processor']}, {here['threads']} threads, {here['versions']}")
    return console, here


def describe_machine(num_threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": machine.processor(),
        "threads": num_threads,
        "versions": machine.versions(PACKAGES),
    }


def show(console: Console, name: str, timings: list[Timing]) -> None:
    """Prints a row of the benchmark as a table of its contenders."""
    table = Table(title=name, title_justify="left")
    for column in ("contender", "median", "spread", f"times faster than {timings[0].name}", "memory"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for timing in timings:
        unit, factor = ("s", 1.0) if timing.median >= 1 else ("ms", 1000.0)
        table.add_row(
            timing.name,
            f"{timing.median * factor:.3g} {unit}",
            f"±{timing.spread:.0%}",
            f"{timings[0].median / timing.median:.2f}",
            f"{timing.memory_bytes / 2**20:,.0f} MiB",
        )
    console.print(table)


def time_row(console: Console, row: Row, num_rounds: int) -> list[Timing]:
    """Times the contenders of a row and prints them."""
    with live_progress(row.name) as tell:
        timings = time_in_turns(row.contenders, num_rounds, tell)
    show(console, row.name, timings)
    return timings
