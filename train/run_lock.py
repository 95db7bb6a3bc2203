"""One command at a time trains in a run's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_NAME = "run.lock"


@contextmanager
def only_command(folder: Path) -> Iterator[None]:
    """Inside, no other command can enter for the same folder.

    The lock is the kernel's (flock on `run.lock`): it ends with the process, however that ends, and the processes it
    starts do not inherit it. It holds between the machines of NFS from Linux 2.6.12 on; where a file system has no
    flock, filelock says so and keeps a file with the process's number instead, which it removes if that is gone.

    Args:
        folder: Of the run; made if need be. Only the first process of a run enters.

    Raises:
        BlockingIOError: Another command is inside.
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK_NAME, timeout=0):
            yield
    except Timeout as error:
        raise BlockingIOError(
            f"only one command at a time may train in {folder}, and another one does (it holds {error.lock_file}); "
            "wait for its end, or choose another --run.folder"
        ) from None
