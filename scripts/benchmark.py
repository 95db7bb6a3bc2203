"""Speed and memory as ratios within one run: python -m scripts.benchmark."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import growth
from benchmarks.contenders import Timing, time_in_turns
from benchmarks.rows import ROWS, Machine, Row
from system import command_line, machine
from system.atomic_file import write_atomically

PACKAGES = ("torch", "pytorch-lightning", "kornia", "numpy", "opencv-python-headless")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark",
        description="Times this project beside the textbook formulation that public code uses and beside its own "
        "convolutions alone. Contenders run in processes of their own and in turns; the table shows medians. "
        "docs/performance.md explains it. The default takes about half an hour on two cores.",
    )
    parser.add_argument("rows", nargs="*", metavar="ROWS", help=f"which of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=machine.num_cores(), help="of each contender (default: all)")
    parser.add_argument("--faces", type=Path, help="photographs for `loading` (default: drawn by the shipped prior)")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--growth", type=Path, metavar="SVG", help="draw time and memory over size into it, and end")
    parser.add_argument("--overwrite", action="store_true", help="replace the files of --output and --growth")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    if unknown or arguments.rounds < 1 or arguments.threads < 1:
        raise ValueError(
            f"rows must be among {', '.join(ROWS)} and --rounds and --threads at least 1, got "
            f"{arguments.rows}, {arguments.rounds} and {arguments.threads}"
        )
    for output in (arguments.output, arguments.growth):
        if output is not None:
            command_line.refuse_existing(output, arguments.overwrite)
    return arguments


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
    with console.status(row.name) as status:
        timings = time_in_turns(row.contenders, num_rounds, lambda step: status.update(f"{row.name}: {step}"))
    show(console, row.name, timings)
    return timings


def measure_growth(console: Console, arguments: argparse.Namespace) -> None:
    """Times an iteration over sizes and threads and draws it."""
    points = []
    for size in growth.sizes():
        contenders = growth.contenders(size, arguments.threads)
        timings = time_row(
            console,
            Row(f"stage 2 iteration in {machine.native_precisions()[-1]}, {size}", contenders),
            arguments.rounds,
        )
        points += [growth.Point(size, c.num_threads, t) for c, t in zip(contenders, timings, strict=True)]
    write_atomically(arguments.growth, growth.plot(points))


def main() -> None:
    """Times the rows and prints them one by one."""
    arguments = parse_arguments()
    console = Console()
    here = describe_machine(arguments.threads)
    if machine.BF16 not in machine.native_precisions():
        console.print("this processor would emulate bf16: rows in bf16 are left out")
    console.print(f"{here['processor']}, {here['threads']} threads, {here['versions']}")
    if arguments.growth is not None:
        measure_growth(console, arguments)
        return
    results = []
    for kind in arguments.rows or ROWS:
        for row in ROWS[kind](Machine(arguments.threads, arguments.faces)):
            timings = time_row(console, row, arguments.rounds)
            figures = [{**timing._asdict(), "median": timing.median} for timing in timings]
            results.append({"row": row.name, "contenders": figures})
            if arguments.output is not None:  # after every row, so that nothing is lost
                text = json.dumps({"machine": here, "rows": results}, indent=2)
                write_atomically(arguments.output, f"{text}\n")


if __name__ == "__main__":
    command_line.conclude(main)
