"""What every command shares: expected errors become one line on stderr and an exit code that says what to do."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from system.child_processes import end_with_parent

EXPECTED_ERRORS = (ValueError, OSError)
LOST_PROCESS_CODE = 138
"""A process that the command needs was lost, or a scheduler gave notice (128 + SIGUSR1): the same command goes on."""


def run(main: Callable[[], None]) -> None:
    """Runs a command and exits with its status.

    Args:
        main: The command, without arguments.

    Exit codes: 0 on success, 2 after a wrong option, file or folder (one line on stderr), 130 after Ctrl-C, 138 after
    the loss of a process it needs (one line as well). With `GPEN_TRACEBACK=1` in the environment errors keep their
    traceback.
    """
    try:
        end_with_parent()
        main()
    except EXPECTED_ERRORS as error:
        if os.environ.get("GPEN_TRACEBACK") == "1":
            raise
        line = " ".join(str(error).split())
        print(f"error: {line or type(error).__name__}", file=sys.stderr, flush=True)
        if isinstance(error, ChildProcessError):
            sys.stdout.flush()
            os._exit(LOST_PROCESS_CODE)  # an ordinary end would wait for processes that hang
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def refuse_existing(output: Path, overwrite: bool) -> None:
    """Refuses to replace a file without the option `--overwrite`.

    Raises:
        ValueError: There is such a file already.
    """
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists already; choose another name or add --overwrite")
