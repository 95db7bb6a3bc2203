"""All that is asked in the first hour on a GPU, in the order of what matters, within a given time."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.gpu import iteration_rows, short_training
from benchmarks.gpu.iteration_rows import Card, Effort, Figures, Form, measure_forms
from benchmarks.gpu.page import write_table
from benchmarks.gpu.short_training import draw_faces, measure_reading
from benchmarks.iterations import Size, Stage
from models import Architecture
from system import machine
from system.atomic_file import write_atomically
from system.child_processes import end_with
from system.wording import counted

Step = Literal["iterations", "loader", "compiled", "training"]
STEPS: tuple[Step, ...] = get_args(Step)
FIGURES = "check_gpu.json"
SHARE_OF_TRAINING = 0.5
"""Of the whole time, for training. Compiling gets what the other steps leave."""
SECONDS_OF_READING = 15.0
LEAST_SECONDS = 30.0
"""For the forms of one size in a process of their own: less would not even start it."""
MOST_WORKERS = 16


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    sizes: tuple[Size, ...] = (Size(Architecture(256, 1, 0.5), 16), Size(Architecture(512, 2, 1.0), 8))
    """Networks and batches of the iterations: BFR-256 and BFR-512 of the public models."""
    effort: Effort = field(default_factory=Effort)
    seconds_of_reading: float = SECONDS_OF_READING
    training: tuple[str, ...] = short_training.TRAINING
    """Options of `python -m train fit`."""


@dataclass
class Check:
    """Measures step by step; every figure is written as soon as it is there.

    Args:
        card: Where.
        faces: Photographs for loader and training; None for faces that the shipped prior draws.
        folder: Gets check_gpu.json, the curves and the run.
        page: Markdown whose table is replaced; None for none.
        minutes: All of it may take.
        plan: What is measured.
    """

    card: Card
    faces: Path | None
    folder: Path
    page: Path | None
    minutes: float
    plan: Plan = field(default_factory=Plan)
    _start: float = field(default_factory=time.perf_counter)

    def run(self, steps: Sequence[Step]) -> list[str]:
        """Carries out some of `STEPS`, all where none is named; results of others that an earlier call left in the
        folder stay. Returns what failed, one line each."""
        self._results = self._earlier()
        self._results |= {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "card": self.card.description(),
            **machine.code_state(),
        }
        self._results.setdefault("problems", {})
        carry_out: dict[Step, Callable[[], object]] = {
            "iterations": lambda: self._iterate(is_compiled=False),
            "loader": self._read,
            "compiled": lambda: self._iterate(is_compiled=True),
            "training": self._train,
        }
        name = self._results["card"]["name"]
        print(f"{name}: {', '.join(steps or STEPS)}, about {self.minutes:g} minutes", flush=True)
        for step in [step for step in STEPS if not steps or step in steps]:
            self._results["problems"][step] = []
            try:
                carry_out[step]()
            except (ValueError, OSError, RuntimeError) as error:  # the other steps are worth their time all the same
                self._fail(step, f"{type(error).__name__}: {error}")
            self._write()
        return [f"{step}: {problem}" for step, found in self._results["problems"].items() for problem in found]

    def _earlier(self) -> dict[str, Any]:
        path = self.folder / FIGURES
        try:
            results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); move it away: all steps are measured anew") from error
        if not isinstance(results, dict) or not isinstance(results.get("problems", {}), dict):
            raise ValueError(
                f"{path} must hold the figures of an earlier check; move it away, or choose another --output"
            )
        return results

    def _fail(self, step: Step, problem: str) -> None:
        print(f"failed: {problem}", flush=True)
        self._results["problems"][step].append(problem)

    def _write(self) -> None:
        write_atomically(self.folder / FIGURES, json.dumps(self._results, indent=2) + "\n")
        if self.page is not None:
            write_table(self.page, self._results)

    def _seconds_left(self) -> float:
        """Until training has to begin."""
        return 60 * self.minutes * (1 - SHARE_OF_TRAINING) - (time.perf_counter() - self._start)

    def _iterate(self, is_compiled: bool) -> None:
        step: Step = "compiled" if is_compiled else "iterations"
        rows = self._results[step] = []
        of_forms = iteration_rows.forms(self.card)[is_compiled]
        works: list[tuple[Stage, Size]] = [(stage, size) for size in self.plan.sizes for stage in (2, 1)]
        for index, (stage, size) in enumerate(works):
            share = max(self._seconds_left(), 0.0) / (len(works) - index)
            seconds = max(share, LEAST_SECONDS)
            for figures in in_another_process(self.card, stage, size, of_forms, self.plan.effort, seconds):
                rows.append(asdict(figures))
                print(_line(figures), flush=True)
                if figures.problem:
                    self._results["problems"][step].append(f"stage {stage}, {size}, {figures.form}: {figures.problem}")
                self._write()

    def _read(self) -> None:
        resolution = max(size.architecture.resolution for size in self.plan.sizes)
        num_workers = max(min(machine.num_cores() - 1, MOST_WORKERS), 1)
        reading = measure_reading(
            self._faces(), resolution, num_workers, self.plan.seconds_of_reading, self.folder / "reading"
        )
        kind = "drawn by the shipped prior, enlarged" if self.faces is None else "photographs"
        self._results["loader"] = {**reading._asdict(), "kind": kind}
        speed = f"{reading.images_per_second:.0f} images/s at {resolution} pixels"
        print(f"loader: {speed}, {counted(num_workers, 'worker')}", flush=True)

    def _train(self) -> None:
        minutes = self.minutes * SHARE_OF_TRAINING
        words = ("--data.num_workers", str(max(min(machine.num_cores() - 1, 8), 1)), *self.plan.training)
        result = short_training.train(self.card, words, self._faces(), minutes, self.folder)
        self._results["training"] = {"minutes": minutes, **result}

    def _faces(self) -> Path:
        return draw_faces(self.folder / "faces") if self.faces is None else self.faces


def in_another_process(
    card: Card, stage: Stage, size: Size, of_forms: Sequence[Form], effort: Effort, seconds: float
) -> Iterator[Figures]:
    """Measures forms in a process that is ended when its time is over; arguments as of `measure_forms`.

    Memory that an earlier form held is gone so, and a compiler that never ends costs no more than its time.
    """
    deadline = time.perf_counter() + seconds
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_figures, args=(theirs, os.getpid(), card, stage, size, of_forms, effort))
    process.start()
    theirs.close()
    done, problem = 0, ""
    try:
        while done < len(of_forms):
            if not ours.poll(max(deadline - time.perf_counter(), 0)):
                problem = f"not done within {seconds:.0f} s"
                break
            yield ours.recv()
            done += 1
    except EOFError:
        problem = "its process ended; its message stands above"
    finally:
        ours.close()
        process.kill()
        process.join()
    for form in of_forms[done:]:
        yield Figures(stage, str(size), form.name, size.batch_size, problem=problem)


def _send_figures(
    pipe: Connection, parent: int, card: Card, stage: Stage, size: Size, of_forms: Sequence[Form], effort: Effort
) -> None:
    end_with(parent)
    for figures in measure_forms(card, stage, size, of_forms, effort):
        pipe.send(figures)


def _line(figures: Figures) -> str:
    work = f"stage {figures.stage}, {figures.size}, {figures.form}"
    if figures.seconds is None:
        return f"{work}: {figures.problem}"
    return f"{work}: {figures.seconds * 1000:,.1f} ms, {figures.batch_size / figures.seconds:,.1f} images/s"
