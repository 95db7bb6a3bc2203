"""From what a user names, a file, a run's folder or its best or last checkpoint, to the file."""

import re
from pathlib import Path

from models.files.checkpoint_file import check_seal
from models.files.pickled_file import read_pickled

NAME = re.compile(r"images_(\d{12})\.ckpt")
CHECKPOINTS = "checkpoints"


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint that a path stands for.

    Args:
        path: A file; a run's folder, which stands for its last sound checkpoint; or `last` or `best` in a run's folder
            or in its `checkpoints`, where no file is called so.

    Raises:
        FileNotFoundError: There is nothing at the path, or no checkpoint in the run.
        ValueError: No checkpoint of the run is as it was written, or the best one is asked for and the run has none.
    """
    path = Path(path)
    if path.is_file():
        return path
    run, which = (path, "last") if path.is_dir() else (path.parent, path.name)
    run = run.parent if run.name == CHECKPOINTS else run
    folder = run / CHECKPOINTS
    paths = sorted(p for p in folder.glob("images_*.ckpt") if NAME.fullmatch(p.name))
    if which not in ("last", "best") or not (folder.is_dir() or (run / "run.json").is_file()):
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    if not paths:
        raise FileNotFoundError(f"there is no checkpoint at {path}: the run in {run} has written none yet")
    last = next((p for p in reversed(paths) if _is_sound(p)), None)
    if last is None:
        raise ValueError(f"all {len(paths)} checkpoints of {run} are damaged; put a copy back")
    return last if which == "last" else _best(run, last)


def _is_sound(path: Path) -> bool:
    try:
        return check_seal(path)
    except ValueError:
        return False


def _best(run: Path, last: Path) -> Path:
    """The checkpoint that the last one remembers as the best by validation."""
    callbacks = read_pickled(last).values.get("callbacks")
    own = callbacks.get("RunCheckpoints") if isinstance(callbacks, dict) else None
    best = own.get("best") if isinstance(own, dict) else None
    if not isinstance(best, tuple) or len(best) != 2 or type(best[1]) is not int:
        raise ValueError(f"{run} has no best checkpoint, since it was not validated yet; name {run / 'last'}")
    path = run / CHECKPOINTS / f"images_{best[1]:012}.ckpt"
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}, which the run in {run} remembers as its best")
    return path
