"""Commands in forked processes, for which nothing has to be imported again, and in processes of their own.

python -m tests.fuzz.forked_commands --output FOLDER --kills 50        # SIGKILLs of runs of both stages
"""

import importlib
import math
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import torch

from system import command_line
from system.child_processes import Children, end_with
from tests.fuzz.argument_inputs import ROOT, main_of
from tests.fuzz.confinement import confine

BEGUN = 99
"""Exit code in the place of a run, a study or a soak that a command line would begin."""
MEMORY_LIMIT_BYTES = 6 * 2**30
"""Address space of a command beyond what the imports take."""
MARK = "GPEN_MUTATED"
"""Variable by which all processes of a command are found."""
LEFT_PROCESSES = 98
"""Exit code in the place of a command that has ended but left processes behind."""

SECONDS_TO_FOLLOW = 10.0
"""Processes that a command has started may end so much later than it does."""


@dataclass
class Outcome:
    """How a command ended."""

    code: int | None
    """None where it was ended since it was at work for long."""
    output: bytes
    seconds: float
    """Processor time it took."""
    mebibytes: float = 0.0


def in_fork(action: Callable[[], Any], folder: Path, log: Path, seconds: float, within: Path | None = None) -> Outcome:
    """Carries something out in a forked process, so that the imports of this one are there already.

    Args:
        action: What a command's process would do.
        folder: Its working directory.
        log: File for what it prints.
        seconds: It is ended after so much processor time, or ten times as long.
        within: It can change nothing outside of this folder; None sets no bounds.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = os.fork()
    if process == 0:
        _become(folder, log, seconds)
        if within is not None:
            confine(within)
        _carry_out(action)
    code, usage = _wait(process, time.monotonic() + 10 * seconds)
    used = usage.ru_utime + usage.ru_stime
    code = None if code == -signal.SIGXCPU else code
    return Outcome(code, log.read_bytes(), used, max(usage.ru_maxrss - own, 0) / 1024)


def _become(folder: Path, log: Path, seconds: float) -> None:
    """Makes a forked process one of its own: session, working directory, output, limits on time and memory."""
    os.setsid()
    os.chdir(folder)
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(number, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)  # pytest has put others in their place
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _carry_out(action: Callable[[], Any]) -> NoReturn:
    """Ends a forked process as Python would."""
    code = 0
    try:
        action()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(process: int, deadline: float) -> tuple[int | None, Any]:
    """Waits for a process, or ends it with its session when it takes too long."""
    has_time = True
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            break
        if has_time and time.monotonic() > deadline:
            has_time = False
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # readers of a command that was ended
    return (os.waitstatus_to_exitcode(status) if has_time else None), usage


def in_process(module: str, words: Sequence[str], folder: Path, seconds: float, within: Path) -> Outcome:
    """Starts a command as its users do, but that it can change nothing outside of a folder; one that is still at work
    is asked to end and must leave no process behind."""
    start, mark = time.monotonic(), secrets.token_hex(16)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), MARK: mark}
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", module, *words]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, start_new_session=True, preexec_fn=partial(confine, within))  # fmt: skip
        code: int | None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            code = process.wait(120)
            code = None if code in (-signal.SIGTERM, 128 + signal.SIGTERM) else code
        deadline = time.monotonic() + SECONDS_TO_FOLLOW
        while processes_with(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        code = LEFT_PROCESSES if processes_with(mark) else code
    return Outcome(code, (folder / "log").read_bytes(), time.monotonic() - start)


def call(module: str, words: Sequence[str]) -> None:
    """What the process of a command does, but that it begins no other one and downloads nothing."""

    def begin(*_: object, **__: object) -> NoReturn:
        sys.exit(BEGUN)

    Children.start = begin  # type: ignore[method-assign]
    os.environ |= {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": os.getcwd(), "WANDB_MODE": "disabled"}
    if module == "train":
        sys.argv = ["train", *words]
        command_line.conclude(main_of(module))
    if module == "scripts.benchmark":
        import benchmarks.rows

        benchmarks.rows.time_in_turns = begin
    if module == "scripts.check_gpu":
        import benchmarks.gpu_check

        benchmarks.gpu_check.in_another_process = benchmarks.gpu_check.measure_reading = begin
    if module == "scripts.run_demo":
        import demo.steps
        from demo.budget import Speed

        demo.steps.budget.measure_speed = lambda precision: Speed(1.0, 1.0)
    command_line.run(main_of(module), words)


def import_what_it_needs(action: Callable[[], Any], folder: Path, seconds: float) -> None:
    """Imports here what a command imports while it works, so that each forked process has it at once."""
    names = folder / "modules"

    def act_and_tell() -> None:
        signal.signal(signal.SIGXCPU, lambda *_: sys.exit())  # it has imported what it needs by then
        try:
            action()
        finally:
            names.write_text("\n".join(name for name, module in sys.modules.items() if is_ours(module)))

    scratch = folder / "first"
    scratch.mkdir()
    in_fork(act_and_tell, scratch, folder / "log", seconds, folder)
    for name in names.read_text().splitlines():
        importlib.import_module(name)
    shutil.rmtree(scratch)


def is_ours(module: object) -> bool:
    """Whether a module is one of this repository's packages."""
    from tests.fuzz.argument_inputs import ROOT

    file = getattr(module, "__file__", None)
    return (
        bool(file) and Path(str(file)).is_relative_to(ROOT) and ".venv" not in Path(str(file)).relative_to(ROOT).parts
    )


class ForkedRun:
    """`python -m train fit` in a forked process, with what a soak asks of a process that it kills.

    Args:
        words: What follows `fit`.
        log: File for what it prints.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        from train import training  # here, so that no run has to
        from train.command import fit

        assert training.Training
        self.returncode: int | None = None
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            end_with(parent)
            number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for standard in (1, 2):
                os.dup2(number, standard)
            _carry_out(lambda: command_line.conclude(lambda: fit(words)))

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it is at work."""
        return self.wait(0)

    def wait(self, seconds: float = math.inf) -> int | None:
        """Waits for the end and returns the exit code; None where it is still at work after so many seconds."""
        deadline = time.monotonic() + seconds
        while self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                break
            else:
                time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process that has begun the run."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)


def main(
    output: Path,
    kills: int = 50,
    images_between: int = 16,
    stages: tuple[Literal["prior", "restoration"], ...] = ("prior", "restoration"),
    seed: int = 0,
) -> int:
    """Does what scripts.soak_run does with forked processes, which start ten times as fast.

    Args:
        output: New folder for faces and runs.
        kills: SIGKILLs for each stage.
        images_between: Images a run gets on, on average, before a kill.
        stages: Which to soak.
        seed: Root of the moments of the kills.
    """
    from train.run import soak as soaking
    from train.run.settings import Soak

    def start(self: Children, arguments: Sequence[str], environment: object, output: IO[bytes], _: object) -> Any:
        run = ForkedRun(arguments[3:], Path(output.name))  # behind -m train fit
        self._running.add(run)  # type: ignore[arg-type]
        return run

    torch.set_num_threads(1)
    Children.start = start  # type: ignore[assignment, method-assign]
    return 0 if soaking.soak_stages(Soak(output, kills, images_between, seed), stages) else 1


def processes_with(mark: str) -> list[int]:
    """The living processes that a command started by `in_process` has left behind."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes():  # empty of one that has ended
                found.append(int(path.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


if __name__ == "__main__":
    command_line.run(main)
