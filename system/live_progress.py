"""How far a command is and how long it still takes: a bar on a terminal, a line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from typing import TextIO

SECONDS_TO_FIRST_LINE, SECONDS_BETWEEN_LINES = 9.0, 30.0
"""Where there is no terminal; the second line comes as early as the first."""
SECONDS_BETWEEN_LOOKS = 0.5


OnStep = Callable[..., None]
"""What gets to know how far a command is: called like `ignore_step`, whose docstring says what its arguments are."""


def ignore_step(words: str, done: int = 0, total: int = 0, share: float = 0.0) -> None:
    """An `OnStep` that does nothing.

    Args:
        words: What goes on; other ones than before begin a step of their own, whose time is counted from then on.
        done: Parts of the step.
        total: Of these parts; 0 where they are not counted.
        share: Of the work of all steps that is done, 0 to 1; 0 where it is not known.
    """


OnProgress = Callable[[int], None]
"""What gets to know how many are done, of whatever is counted."""


def ignore_progress(done: int) -> None:
    """An `OnProgress` that does nothing."""


def sharing(on_step: OnStep, steps: Sequence[tuple[str, float]]) -> OnStep:
    """An `OnStep` without shares that passes on to one with shares.

    Args:
        on_step: Gets to know what goes on, and how much of all is done.
        steps: How the words of each step begin, in the order in which the steps come, and about what it costs, in any
            unit; words of no step cost nothing.
    """
    all_costs = sum(cost for _, cost in steps)
    current, following, before, its_cost = "", 0, 0.0, 0.0

    def listen(words: str, done: int = 0, total: int = 0) -> None:
        nonlocal current, following, before, its_cost
        if words != current:
            current, before, its_cost = words, before + its_cost, 0.0
            for place in range(following, len(steps)):
                if words.startswith(steps[place][0]):
                    following, before, its_cost = place + 1, sum(cost for _, cost in steps[:place]), steps[place][1]
                    break
        on_step(words, done, total, (before + (its_cost * done / total if total else 0.0)) / all_costs)

    return listen


def duration(seconds: float) -> str:
    """Seconds as 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


class StepClock:
    """What is being done, and when it and everything will be done at the speed so far; `total` is 0 where parts are not
    counted."""

    def __init__(self, words: str, total: int = 0) -> None:
        self.words, self.done, self.total = words, 0, total
        self.begun = time.monotonic()
        self._shares_begun: float | None = None
        self._end: float | None = None

    def on_step(self, words: str, done: int = 0, total: int = 0, share: float = 0.0) -> None:
        """See `ignore_step`."""
        now = time.monotonic()
        if words != self.words:
            self.begun = now
        self.words, self.done, self.total = words, done, total
        if self._shares_begun is None and total:
            self._shares_begun = now
        elif self._shares_begun is not None and share > 0:
            self._end = now + (now - self._shares_begun) * (1 - share) / share

    def line(self) -> str:
        """The step in one line: parts done and time left, where known also in all; else the time it has taken."""
        now = time.monotonic()
        in_all = "" if self._end is None else f"; {duration(max(self._end - now, 0.0))} left in all"
        if not self.total:
            return f"{self.words}: {duration(now - self.begun)} so far{in_all}"
        counted = f"{self.words}: {self.done:,} of {self.total:,}"
        if not self.done:
            return f"{counted}, {duration(now - self.begun)} so far{in_all}"
        return f"{counted}, {duration((now - self.begun) * (self.total - self.done) / self.done)} left{in_all}"


@contextmanager
def live_progress(words: str, total: int = 0, as_lines: bool = False) -> Iterator[OnStep]:
    """Shows what is going on and how long it still takes, also while nobody tells anything; on stderr.

    `total` is 0 where parts are not counted; `as_lines` prints lines to stdout, on a terminal as well: a run has its
    bar and its lines there. Yields what to tell how far it is.
    """
    clock, ended = StepClock(words, total), threading.Event()
    if sys.stderr.isatty() and not as_lines:
        show = partial(_draw_bar, clock, ended)
    else:
        show = partial(_print_lines, clock, ended, sys.stdout if as_lines else sys.stderr)
    thread = threading.Thread(target=show, name="live progress", daemon=True)
    thread.start()
    try:
        yield clock.on_step
    finally:
        ended.set()
        thread.join()


def _print_lines(clock: StepClock, ended: threading.Event, file: TextIO) -> None:
    """Prints a line after a while, and then now and then."""
    waits = chain((SECONDS_TO_FIRST_LINE, SECONDS_TO_FIRST_LINE), repeat(SECONDS_BETWEEN_LINES))
    while not ended.wait(next(waits)):
        print(clock.line(), file=file, flush=True)


def _draw_bar(clock: StepClock, ended: threading.Event) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)
        is_over = False
        while not is_over:
            is_over = ended.wait(SECONDS_BETWEEN_LOOKS)
            text = escape(clock.line())
            progress.update(task, description=text, completed=clock.done, total=clock.total or None)
