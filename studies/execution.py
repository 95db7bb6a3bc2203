"""Carrying runs out: one after another, side by side, or shared with other machines through locks in the folder."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock, Timeout

from studies.plan import PlannedRun
from system.child_processes import Children
from system.live_progress import duration
from train.processes.strategy import OUT_OF_TIME_CODE
from train.reporting.tracking import read_table

Item = TypeVar("Item")


@dataclass(frozen=True)
class Slot:
    """What one run at a time may use."""

    number: int
    cores: tuple[int, ...]
    gpus: tuple[str, ...]
    """As CUDA_VISIBLE_DEVICES names them; empty without GPUs."""

    def environment(self) -> dict[str, str]:
        """Variables of a run's process: threads as many as cores, since more than that collapse beside each other."""
        variables = dict(os.environ)
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        else:
            variables["OMP_NUM_THREADS"] = str(len(self.cores))
        return variables

    def options(self) -> list[str]:
        """Arguments of `python -m train fit`."""
        return ["--trainer.devices", str(len(self.gpus))] if self.gpus else []


def share_machine(num_slots: int) -> list[Slot]:
    """Divides the cores this process may use, and the GPUs it sees, evenly among so many runs at a time; ValueError
    where there are fewer cores, or fewer GPUs where there are GPUs, than runs."""
    cores = sorted(os.sched_getaffinity(0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(index) for index in range(torch.cuda.device_count())]
    if gpus and visible:
        gpus = visible.split(",")[: len(gpus)]
    largest = len(gpus) or len(cores)
    if not 1 <= num_slots <= largest:
        raise ValueError(
            f"--at-once must be from 1 to {largest} here, the {'GPUs' if gpus else 'cores'}, got {num_slots}"
        )
    return [
        Slot(index, tuple(_part(cores, index, num_slots)), tuple(_part(gpus, index, num_slots)))
        for index in range(num_slots)
    ]


def _part(items: Sequence[Item], index: int, count: int) -> Sequence[Item]:
    size = len(items) // count
    return items[index * size : (index + 1) * size]


WAIT_SECONDS = 5.0
"""Between two looks for a run that can be taken."""
SECONDS_TO_FIRST_REPORT, REPORT_SECONDS = 15.0, 60.0
"""To the first line of progress, and between two."""


@dataclass
class Execution:
    """Carries out what is not done yet, of runs in an order in which each finds its start done, one at a time in each
    slot.

    Several of these, on one machine or on many that share the folder, divide the runs among themselves: each takes a
    run whose start is done and whose lock is free. A lock falls with its process.
    """

    runs: Sequence[PlannedRun]
    slots: Sequence[Slot]
    print_line: Callable[[str], None]
    failed: dict[str, str] = field(default_factory=dict)
    """Fingerprint of runs that could not be done → reason."""
    is_out_of_time: bool = False
    """A run ended after its `run.max_minutes`; no other one was begun after it."""
    _taken: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._children = Children(
            lambda: self.print_line("ending: runs finish their step and save; the same command continues")
        )

    @property
    def stopped_by(self) -> int:
        """Number of the signal that ended it, 0 for none."""
        return self._children.stopped_by

    @property
    def _is_ending(self) -> bool:
        return self.is_out_of_time or self.stopped_by > 0

    def carry_out(self) -> None:
        """Works until all runs are done or have failed, a signal came, or a run is out of its time.

        Signals that end runs are passed on to them: they finish their step, save and can be continued.
        """
        with self._children, ThreadPoolExecutor(len(self.slots)) as pool:
            done = [pool.submit(self._work, slot) for slot in self.slots]
            start = time.monotonic()
            said = start + SECONDS_TO_FIRST_REPORT - REPORT_SECONDS
            seen_before = self._images_seen()
            while not all(future.done() for future in done):
                time.sleep(0.5)
                if time.monotonic() - said > REPORT_SECONDS:
                    said = time.monotonic()
                    self._report(said - start, seen_before)
            for future in done:
                future.result()

    def _work(self, slot: Slot) -> None:
        """One slot: takes run after run. Children inherit its cores from this thread."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, slot.cores)
        while not self._is_ending and (waiting := self._unfinished()):
            run, lock = self._take(waiting)
            if run is None or lock is None:
                time.sleep(WAIT_SECONDS if not self._is_ending else 0)
                continue
            try:
                self._train(run, slot)
            finally:
                lock.release()

    def _unfinished(self) -> list[PlannedRun]:
        """Runs that are neither done nor failed, those that cannot begin since their start failed now being failed."""
        unfinished = []
        for run in self.runs:
            if isinstance(run.start, PlannedRun) and run.start.fingerprint in self.failed:
                self.failed.setdefault(run.fingerprint, f"{run.start.name} failed")
            if run.fingerprint not in self.failed and not run.is_complete:
                unfinished.append(run)
        return unfinished

    def _take(self, runs: Sequence[PlannedRun]) -> tuple[PlannedRun | None, FileLock | None]:
        """The first run that can begin and that nobody else does."""
        for run in runs:
            if isinstance(run.start, PlannedRun) and not run.start.is_complete:
                continue
            with self._lock:
                if run.fingerprint in self._taken:
                    continue
                self._taken.add(run.fingerprint)
            run.folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(run.folder.with_suffix(".lock"), blocking=False)
            try:
                lock.acquire()
            except Timeout:
                self._taken.discard(run.fingerprint)
                continue
            if not run.is_complete:  # by another machine in the meantime
                return run, lock
            lock.release()
        return None, None

    def _train(self, run: PlannedRun, slot: Slot) -> None:
        self.print_line(f"{run.name}: {'continued at' if run.images_seen else 'begins,'} {run.images_seen:,} of "
                 f"{run.total_images:,} images; log: {run.log}")  # fmt: skip
        start = time.monotonic()
        command = [*run.command(), *slot.options()]
        with run.log.open("ab") as log:
            code = self._children.wait(self._children.start(command, slot.environment(), log, log))
        self._taken.discard(run.fingerprint)
        if code == 0 and run.is_complete:
            self.print_line(f"{run.name}: done after {duration(time.monotonic() - start)}")
        elif code == OUT_OF_TIME_CODE:
            self.is_out_of_time = True
            self.print_line(
                f"{run.name}: run.max_minutes are over; ending when no run is at work; the same command continues"
            )
        elif not self.stopped_by:
            reason = _last_line(run.log) or f"exit code {code}"
            self.failed[run.fingerprint] = f"exit code {code}: {reason}"
            self.print_line(f"{run.name}: failed, {self.failed[run.fingerprint]}")

    def _images_seen(self) -> int:
        return sum(min(_progress(run), run.total_images) for run in self.runs)

    def _report(self, seconds: float, seen_before: int) -> None:
        """A line of progress; the time left from the speed of this execution so far."""
        seen = self._images_seen()
        total = sum(run.total_images for run in self.runs if run.fingerprint not in self.failed)
        speed = (seen - seen_before) / seconds
        left = f"{duration((total - seen) / speed)} left" if speed else "time left not known yet"
        num_done = sum(run.is_complete for run in self.runs)
        self.print_line(f"{seen:,} of {total:,} images, {num_done} of {len(self.runs)} runs done, {left}")


def _progress(run: PlannedRun) -> int:
    """Images seen by a run, from its table, which is ahead of its checkpoints."""
    return max(*read_table(run.folder / "train.csv"), run.images_seen, 0)


def _last_line(log: Path) -> str:
    """The end of a log, without what training prints before."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ")[:500] if lines else ""
