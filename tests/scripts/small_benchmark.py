"""`scripts.benchmark` of which all is tiny and one row of a kind: `python -m tests.scripts.small_benchmark …`.

Contenders are forked, as each would load PyTorch anew.
"""

import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import get_args
from unittest.mock import patch

from benchmarks import contenders, faces, rows, time_to_quality
from benchmarks.exported_forms import Form
from benchmarks.iterations import Size
from models import Architecture
from scripts.benchmark import main
from system import command_line
from system.machine import FLOAT32

TINY = Size(Architecture(32, 1, 0.03125, style_dim=16, num_mapping_layers=2), 4)
FORK = multiprocessing.get_context("fork")


class Forks:
    """A context of `multiprocessing` whose processes have everything imported already."""

    def __init__(self) -> None:
        self.context = FORK
        self.ours: list[Connection] = []

    def Pipe(self) -> tuple[Connection, Connection]:  # noqa: N802
        ours, theirs = self.context.Pipe()
        self.ours.append(ours)
        return ours, theirs

    def Process(self, target: Callable[..., None], args: tuple[object, ...]) -> ForkProcess:  # noqa: N802
        def serve() -> None:
            for inherited in self.ours:
                inherited.close()  # else the end of the other one is not seen
            target(*args)

        return self.context.Process(target=serve)


def make_small() -> None:
    """Everything that the benchmark times gets small, for the rest of this process."""
    forms = [form for form in get_args(Form) if form != "static compiled"]  # takes a minute
    wide = replace(TINY, architecture=replace(TINY.architecture, resolution=128))  # of both sweeps
    training = faces.training
    for module, values in {
        contenders: {"_forget_most_memory": lambda: 0, "WARM_UP_RUNS": 0},  # forks may take no memory at all
        faces: {"training": lambda *work: training(*work[:4], num_workers=0)},
        rows: {
            **{"SMALL": TINY, "MEDIUM": TINY, "LARGE": TINY.architecture, "LOADER_ITERATIONS": 1},
            **{"native_precisions": lambda: (FLOAT32,), "get_args": lambda _: forms, "growth_sizes": lambda: [wide]},
        },
        time_to_quality: {
            **{"choose_formulations": lambda: None, "NUM_MEASUREMENTS": 1},
            "SIZE": Size(Architecture(64, 1, 0.03125, style_dim=16), 2),
        },
        contenders.multiprocessing: {"get_context": lambda _: Forks()},
    }.items():
        for name, value in values.items():
            patch.object(module, name, value).start()
    patch.dict(rows.ROWS, {kind: partial(_first, of_kind) for kind, of_kind in rows.ROWS.items()}).start()


def _first(of_kind: Callable[[rows.Machine], Iterator[rows.Row]], machine: rows.Machine) -> Iterator[rows.Row]:
    return itertools.islice(of_kind(machine), 1)


if __name__ == "__main__":
    make_small()
    command_line.run(main)
