"""Ctrl-C ends a command in one line; imports next to nothing, so that it does from the first moments on."""

import os
import sys

TYPE_CHECKING = False  # typing's own takes longer to import than all of this
if TYPE_CHECKING:
    from types import TracebackType

INTERRUPTED_CODE = 130


def end_interrupted_in_one_line() -> None:
    """Lets Ctrl-C end a command in one line also while its modules are imported, before anything can catch it. Only
    `python -m` has -m for its name then: an interactive Python that imports a package is left alone."""
    if sys.argv[:1] != ["-m"]:
        return
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
        if not is_interruption(error):
            before(kind, error, trace)
            return
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED_CODE)

    sys.excepthook = tell


def is_interruption(error: BaseException | None) -> bool:
    """Whether an error comes from Ctrl-C, which libraries in C turn into an ImportError while they are loaded."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
