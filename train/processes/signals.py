"""Signals that end a run in order: after the iteration, with a checkpoint, in all of its processes."""

import signal
import threading
import time

import torch
from pytorch_lightning import Trainer

from system.child_processes import ENDING_SIGNALS

OUT_OF_TIME_CODE = 75
"""A run ends with it after `run.max_minutes`: try again later (EX_TEMPFAIL of sysexits.h)."""
ITERATIONS_BETWEEN_QUESTIONS = 16


class EndingSignals:
    """Remembers until the iteration is over that a run has to end: by a signal or since its time is over.

    Args:
        max_minutes: After which the run ends; None for no limit.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self._deadline = float("inf") if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.exit_code = 0
        """0, 75 where the time is over, or 128 + the number of the signal that ends the run early."""

    def listen(self) -> None:
        """Takes the signals over from Python; Ctrl-C twice still interrupts at once."""
        if threading.current_thread() is threading.main_thread():
            for number in ENDING_SIGNALS:
                signal.signal(number, self._receive)

    def should_end(self, trainer: Trainer, iteration: int) -> bool:
        """Tells whether a process got a signal; several ask each other now and then, as that waits for the GPU."""
        if trainer.world_size > 1 and iteration % ITERATIONS_BETWEEN_QUESTIONS:
            return False
        if not self.exit_code and time.monotonic() > self._deadline:
            self._end("run.max_minutes are over; ", OUT_OF_TIME_CODE)
        if trainer.world_size > 1:
            own = torch.tensor(float(self.exit_code), device=trainer.strategy.root_device)
            self.exit_code = int(trainer.strategy.reduce(own, reduce_op="max")) or self.exit_code
        return self.exit_code > 0

    def _receive(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.exit_code == 128 + number:  # the user insists
            raise KeyboardInterrupt
        if not self.exit_code:
            self._end("", 128 + number)

    def _end(self, reason: str, code: int) -> None:
        self.exit_code = code
        print(f"\n{reason}ending after this iteration; the same command continues the run", flush=True)


def leave_signals_to_the_run(worker: int) -> None:
    """Lets a worker go on when all processes get a signal, as from Ctrl-C or a scheduler: the run ends in order."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
