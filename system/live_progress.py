"""How far a command is and how long it still takes: a bar on a terminal, a line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO

SECONDS_TO_FIRST_LINE, SECONDS_BETWEEN_LINES = 10.0, 30.0
"""Where there is no terminal."""
SECONDS_BETWEEN_LOOKS = 0.5


Tell = Callable[..., None]
"""What gets to know how far a command is: called like `say_nothing`, whose docstring says what its arguments are."""


def say_nothing(words: str, done: int = 0, total: int = 0) -> None:
    """A `Tell` that does not listen.

    Args:
        words: What goes on; other ones than before begin a step of their own, whose time is counted from then on.
        done: Parts of the step.
        total: Of these parts; 0 where they are not counted.
    """


def duration(seconds: float) -> str:
    """Seconds as 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


class StepClock:
    """What is being done, and when it will be done at the speed so far."""

    def __init__(self, words: str, total: int = 0) -> None:
        """Args:
        words: Of the first step.
        total: Of its parts; 0 where they are not counted.
        """
        self.words, self.done, self.total = words, 0, total
        self.begun = time.monotonic()

    def tell(self, words: str, done: int = 0, total: int = 0) -> None:
        """See `say_nothing`."""
        if words != self.words:
            self.begun = time.monotonic()
        self.words, self.done, self.total = words, done, total

    def line(self) -> str:
        """The step in one line: parts done and time left, or where these are not known the time it has taken."""
        seconds = time.monotonic() - self.begun
        if not self.total:
            return f"{self.words}: {duration(seconds)} so far"
        counted = f"{self.words}: {self.done:,} of {self.total:,}"
        if not self.done:
            return f"{counted}, {duration(seconds)} so far"
        return f"{counted}, {duration(seconds * (self.total - self.done) / self.done)} left"


@contextmanager
def live_progress(words: str, total: int = 0, as_lines: bool = False) -> Iterator[Tell]:
    """Shows what is going on and how long it still takes, also while nobody tells anything; on stderr.

    Args:
        words: What begins.
        total: Of its parts; 0 where they are not counted.
        as_lines: Print lines to stdout, on a terminal as well: a run has its bar and its lines there.

    Yields:
        What to tell how far it is.
    """
    clock, ended = StepClock(words, total), threading.Event()
    if sys.stderr.isatty() and not as_lines:
        show = partial(_draw_bar, clock, ended)
    else:
        show = partial(_print_lines, clock, ended, sys.stdout if as_lines else sys.stderr)
    thread = threading.Thread(target=show, name="live progress", daemon=True)
    thread.start()
    try:
        yield clock.tell
    finally:
        ended.set()
        thread.join()


def _print_lines(clock: StepClock, ended: threading.Event, file: TextIO) -> None:
    """Prints a line after a while, and then now and then."""
    seconds = SECONDS_TO_FIRST_LINE
    while not ended.wait(seconds):
        print(clock.line(), file=file, flush=True)
        seconds = SECONDS_BETWEEN_LINES


def _draw_bar(clock: StepClock, ended: threading.Event) -> None:
    """Keeps a bar up to date until the end."""
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
