"""What may be read and written where, looked at before any work, and what messages say of a path."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from system.machine import ROOT


def check_there(path: Path, what: str) -> None:
    """Raises FileNotFoundError where nothing is at the path of an input, which `what` names; whoever reads it says what
    else is wrong with it. The names `best` and `last` stand for checkpoints of a run."""
    if not path.exists() and path.name not in ("best", "last"):
        raise FileNotFoundError(f"there is no {what} at {path}{way_out(path)}")


def way_out(name: Path | str) -> str:
    """What a message adds behind the name of a file that is none: what is there instead, or where this repository has
    one of that name."""
    path = Path(name).expanduser()
    if path.is_dir():
        return ", which is a folder; name a file in it"
    if path.is_symlink():
        return f", a link to {path.readlink()}, where nothing is; mend it"
    if not path.is_absolute() and (ROOT / path).exists():
        return f" in {Path.cwd()}; commands run in the repository's folder, {ROOT}"
    return "; check the path"


def refuse_existing(output: Path, overwrite: bool) -> None:
    """Raises ValueError where a file would be replaced without the option `--overwrite`."""
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists already; choose another name or add --overwrite")


def check_output_folder(output: Path, overwrite: bool, inputs: Path | None = None) -> None:
    """Raises ValueError for an output folder in which something could be lost: it is no folder, holds files without
    `overwrite`, lies inside the inputs or around them, or is the folder of the one file that is read."""
    _check_writable(output)
    if inputs is not None and inputs.is_dir():
        source, target = inputs.resolve(), output.resolve()
        if source.is_relative_to(target) or target.is_relative_to(source):
            raise ValueError(
                f"input and output must not lie in one another, got {inputs} and {output}; choose another output"
            )
    elif inputs is not None and inputs.resolve().parent == output.resolve():
        raise ValueError(f"the output must not be the folder of {inputs}, got {output}; choose another output")
    if not overwrite and output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output} holds files already; choose another output or add --overwrite")


def _check_writable(folder: Path) -> None:
    """Raises ValueError where a folder cannot be made or nothing can be written into it, before there is any work to
    lose."""
    lowest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not lowest.is_dir():
        kind = "a link to nothing" if lowest.is_symlink() and not lowest.exists() else "a file"
        raise ValueError(f"output must be a folder, {lowest} is {kind}; choose another name")
    if not os.access(lowest, os.W_OK | os.X_OK):
        raise ValueError(f"output must be a folder that can be written to, {lowest} cannot; choose another place")


def check_apart(outputs: Iterable[Path], inputs: Mapping[str, Path], command: str) -> None:
    """Refuses, by a ValueError, to remove or replace what is read: files and folders that a command such as
    `--overwrite` would remove or replace against inputs by words such as `which the run starts from`, none of which may
    be one of the outputs or lie below one; a folder stands for all that it reaches, also through links."""
    removed = {path.resolve() for path in outputs if os.path.lexists(path)}
    for words, path in inputs.items() if removed else ():
        is_around = any(path.resolve() in output.parents for output in removed)
        for place in [path.resolve()] if is_around else _places(path):
            if any(place == output or output in place.parents for output in removed):
                raise ValueError(
                    f"{command} would remove {place}, {words}; write to another folder, or move the input elsewhere"
                )


def _places(path: Path) -> Iterator[Path]:
    """Where a path, and all folders and links below it, really lie; no folder is entered twice."""
    yield path.resolve()
    visited = set()
    for current, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(current)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        yield Path(real)
        paths = (os.path.join(current, name) for name in files)
        yield from (Path(os.path.realpath(link)) for link in paths if os.path.islink(link))
