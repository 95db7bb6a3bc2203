"""Contenders, each in a process of its own, timed in turns."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from system.child_processes import end_with
from system.live_progress import OnStep
from system.machine import give_back_freed_memory, keep_freed_memory

WARM_UP_RUNS = 2


class Part(NamedTuple):
    """A piece of work and how often it happens in one unit of what is measured."""

    run: Callable[[], object]
    share: float = 1.0
    """1/16 for a term that is computed in every sixteenth iteration."""


@dataclass(frozen=True)
class Contender:
    """One way of doing some work."""

    name: str
    prepare: Callable[..., Sequence[Part]]
    """Function of a module (it is sent to another process) that gives the parts of the work, from `arguments`."""
    arguments: tuple[Any, ...]
    num_threads: int
    tuned_memory: bool = True
    """Use `keep_freed_memory`, as training does; the public code has nothing like it."""


class Timing(NamedTuple):
    """Times and memory of one contender."""

    name: str
    seconds: list[float]
    """One per round."""
    memory_bytes: int
    """Most memory held at a time, libraries left out."""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range of the rounds, relative to the median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median


def time_in_turns(contenders: Sequence[Contender], num_rounds: int, on_step: OnStep) -> list[Timing]:
    """Runs all contenders, warmed up before, once per round, so that slow spells of a shared machine meet them all;
    timings in their order. ChildProcessError where one failed or ran out of memory."""
    seconds: list[list[float]] = [[] for _ in contenders]
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes: list[Connection] = []
        for contender in contenders:
            on_step(f"{contender.name}: preparing")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(contender, theirs))  # no daemon: loaders have children
            process.start()
            stack.callback(process.join)
            stack.callback(ours.close)  # ends the process
            theirs.close()
            pipes.append(ours)
            _ask(contender, ours)
        for index in range(num_rounds):
            for number, (contender, pipe, its_seconds) in enumerate(zip(contenders, pipes, seconds, strict=True)):
                on_step("runs", index * len(contenders) + number, num_rounds * len(contenders))
                its_seconds.append(_ask(contender, pipe)[0])
        memory = [int(_ask(contender, pipe)[1]) for contender, pipe in zip(contenders, pipes, strict=True)]
    return [Timing(c.name, s, m) for c, s, m in zip(contenders, seconds, memory, strict=True)]


def _ask(contender: Contender, pipe: Connection) -> tuple[float, int]:
    try:
        pipe.send(None)
        answer: tuple[float, int] = pipe.recv()
    except (EOFError, ConnectionError) as error:
        raise ChildProcessError(
            f"{contender.name} failed; its message stands above, or it ran out of memory; choose other rows"
        ) from error
    return answer


def _serve(contender: Contender, pipe: Connection) -> None:
    """The other process: prepares, warms up, and runs each time it is asked to."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None  # this is no main process
    end_with(parent.pid)
    torch.set_num_threads(contender.num_threads)
    if contender.tuned_memory:
        keep_freed_memory()
    before = _forget_most_memory()
    parts = contender.prepare(*contender.arguments)
    give_back_freed_memory()  # what preparation alone needed would be missing for the others
    if contender.tuned_memory:
        keep_freed_memory()  # anew, as its huge pages were given back too
    for _ in range(WARM_UP_RUNS):
        _run(parts)
    try:
        while True:
            pipe.recv()
            pipe.send((_run(parts), _most_memory() - before))
    except EOFError:
        return


def _run(parts: Sequence[Part]) -> float:
    total = 0.0
    for part in parts:
        start = time.perf_counter()
        part.run()
        total += part.share * (time.perf_counter() - start)
    return total


def _forget_most_memory() -> int:
    """Starts `_most_memory` anew, where Linux lets it, and returns it: libraries take more to load than to hold."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _most_memory()


def _most_memory() -> int:
    """Most resident memory of this process since `_forget_most_memory`, in bytes."""
    try:
        (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
