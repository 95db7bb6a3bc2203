"""What every command shares: expected errors become one line on stderr and exit code 2."""

import os
import sys
from collections.abc import Callable

EXPECTED_ERRORS = (ValueError, OSError)


def run(main: Callable[[], None]) -> None:
    """Runs a command and exits with its status.

    Args:
        main: The command, without arguments.

    Exit codes: 0 on success, 2 after a wrong option, file or folder (one line on stderr), 130 after Ctrl-C. With
    `GPEN_TRACEBACK=1` in the environment errors keep their traceback.
    """
    try:
        main()
    except EXPECTED_ERRORS as error:
        if os.environ.get("GPEN_TRACEBACK") == "1":
            raise
        line = " ".join(str(error).split())
        print(f"error: {line or type(error).__name__}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
