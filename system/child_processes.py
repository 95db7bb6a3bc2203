"""Processes that a command starts: they get its signals, and end when it ends, however that happens."""

import ctypes
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import IO, Any

from system.machine import ROOT

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""After these a run finishes its iteration and saves. SIGUSR1 is the warning of SLURM's `--signal=USR1@120`, SIGHUP
the end of a terminal."""
PARENT = "GPEN_PARENT"
"""Variable that names the process with which a command ends."""
SECONDS_TO_END = 60.0
"""A child that was asked to end has so long to save before it is killed."""
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


class Children:
    """Starts commands of this project; inside its `with` block they get the signals that end this process, at the first
    of which `on_signal` is called."""

    def __init__(self, on_signal: Callable[[], None] | None = None) -> None:
        self.stopped_by = 0
        """Number of the signal that came, 0 for none."""
        self._on_signal = on_signal
        self._running: set[subprocess.Popen[bytes]] = set()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Children":
        """Takes over the signals that end runs (in the main thread; elsewhere Python has none to take)."""
        self._handlers = take_signals(self._pass_on)
        return self

    def __exit__(self, *error: object) -> None:
        """Ends what still runs and gives the signals back."""
        for child in list(self._running):
            self._end(child)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        output: int | IO[bytes] | None = None,
        errors: int | IO[bytes] | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Starts Python with arguments such as `-m train fit …`; it inherits the cores of the calling thread.

        Output and errors go where `subprocess` is told; None for the environment is that of this process. The process
        has a session of its own: Ctrl-C reaches it once, through this process, and `os.killpg(process.pid, …)` reaches
        its workers too.
        """
        variables = {**(os.environ if environment is None else environment), PARENT: str(os.getpid())}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), variables.get("PYTHONPATH"))))
        words = [sys.executable, *arguments]
        child = subprocess.Popen(words, env=variables, stdout=output, stderr=errors, start_new_session=True)
        self._running.add(child)
        if self.stopped_by:  # between the last look and the start
            child.send_signal(self.stopped_by)
        return child

    def wait(self, child: "subprocess.Popen[bytes]") -> int:
        """Waits for the end of a child and returns its exit code, negative after a signal that killed it."""
        code = child.wait()
        self._running.discard(child)
        return code

    def finish(self, child: "subprocess.Popen[bytes]") -> int:
        """Waits as `wait` does; SystemExit, with 128 + its number, where this process got a signal meanwhile."""
        code = self.wait(child)
        self.leave_if_stopped()
        return code

    def leave_if_stopped(self) -> None:
        """Raises SystemExit with 128 + the number of the signal that came, if one did."""
        if self.stopped_by:
            sys.exit(128 + self.stopped_by)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if not self.stopped_by and self._on_signal is not None:
            self._on_signal()
        self.stopped_by = self.stopped_by or number
        for child in list(self._running):
            child.send_signal(number)

    def _end(self, child: "subprocess.Popen[bytes]") -> None:
        child.terminate()
        try:
            child.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._running.discard(child)


def take_signals(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Lets a function handle the signals that end runs, in the main thread: elsewhere Python has none to take.

    It gets the number of the signal; not that of SIGHUP where `nohup` lets this process ignore it. Returns what handled
    them before, by their numbers.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}

    def receive(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        handler(number, frame)

    is_under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    taken = (number for number in ENDING_SIGNALS if number != signal.SIGHUP or not is_under_nohup)
    return {number: signal.signal(number, receive) for number in taken}


def _leave_terminal() -> None:
    """Lets what is printed from now on go nowhere: to print to a terminal that is gone would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        if stat.S_ISCHR(os.fstat(standard).st_mode):
            os.dup2(nowhere, standard)
    os.close(nowhere)


def end_with_parent() -> None:
    """Lets this process end with the one that started it through `Children`, as `end_with` does."""
    parent = os.environ.pop(PARENT, "")  # processes that this one starts have another parent
    if parent:
        end_with(int(parent))


def end_with(parent: int) -> None:
    """Lets Linux send SIGTERM to this process when its parent is gone, even by SIGKILL; SystemExit where it is gone
    already."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM))
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)
