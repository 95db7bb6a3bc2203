"""Files that are the old ones or the complete new ones, whatever happens meanwhile."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside a file to write or to replace (a link is replaced, not followed), whose folder is
    made; when the block ends well, what lies there takes the target's place. OSError, naming the target, where the
    folder cannot be written to or the disk is full: the old file is untouched then, and nothing is left behind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # as users want new files; some libraries hide what they write
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk names no file by itself
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the new name outlive a power failure."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_atomically(path: Path | str, content: bytes | str) -> Path:
    """Writes bytes, or text as UTF-8, with `replacing` and returns the path."""
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


ASIDE_PREFIX = ".replaced_"


@contextmanager
def replacing_outputs(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Renames files and folders aside while the block puts new ones in their place; removes them when it ends well.
    What is not there is passed over, links are renamed and not followed. After any error the old ones are back in their
    place."""
    aside = set_aside(folder, names)
    try:
        yield
    except BaseException:
        put_back(folder, aside)
        raise
    remove_aside(folder)


def set_aside(folder: Path, names: Iterable[str]) -> Path:
    """Renames files and folders, where they are there, into a new hidden folder beside them, from which they can be put
    back, and returns it; a folder that holds one was written to by this project."""
    aside = folder / f"{ASIDE_PREFIX}{secrets.token_hex(4)}"
    found = [name for name in names if os.path.lexists(folder / name)]
    if found:
        aside.mkdir()
    for name in found:
        (folder / name).rename(aside / name)
    return aside


def put_back(folder: Path, aside: Path) -> None:
    """Takes back what `set_aside` renamed; what stands in its place is removed."""
    for old in sorted(aside.iterdir()) if aside.is_dir() else []:
        remove(folder / old.name)
        old.rename(folder / old.name)
    if aside.is_dir():
        aside.rmdir()


def remove_aside(folder: Path) -> None:
    """Removes what was set aside in a folder, also by commands that were killed: the new outputs stand."""
    for aside in folder.glob(f"{ASIDE_PREFIX}*"):
        remove(aside)


def remove(path: Path) -> None:
    """Removes a file, a folder with all that is in it, or a link but not what it leads to, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
