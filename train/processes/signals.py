"""Signals that end a run in order: after the iteration, with a checkpoint, in all of its processes."""

import signal
import threading

import torch
from pytorch_lightning import Trainer

from system.child_processes import ENDING_SIGNALS

ITERATIONS_BETWEEN_QUESTIONS = 16


class EndingSignals:
    """Remembers a signal until the iteration is over."""

    def __init__(self) -> None:
        self._received = 0

    @property
    def exit_code(self) -> int:
        """0, or 128 + the number of the signal that ended the run early."""
        return 128 + self._received if self._received else 0

    def listen(self) -> None:
        """Takes the signals over from Python; Ctrl-C twice still interrupts at once."""
        if threading.current_thread() is threading.main_thread():
            for number in ENDING_SIGNALS:
                signal.signal(number, self._receive)

    def should_end(self, trainer: Trainer, iteration: int) -> bool:
        """Tells whether a process got a signal; several ask each other now and then, as that waits for the GPU."""
        if trainer.world_size > 1:
            if iteration % ITERATIONS_BETWEEN_QUESTIONS:
                return False
            own = torch.tensor(float(self._received), device=trainer.strategy.root_device)
            self._received = int(trainer.strategy.reduce(own, reduce_op="max")) or self._received
        return self._received > 0

    def _receive(self, number: int, frame: object) -> None:
        if number == self._received == signal.SIGINT:  # the user insists
            raise KeyboardInterrupt
        if not self._received:
            self._received = number
            print("\nending after this iteration; the same command continues the run", flush=True)


def leave_signals_to_the_run(worker: int) -> None:
    """Lets a worker go on when all processes get a signal, as from Ctrl-C or a scheduler: the run ends in order."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
