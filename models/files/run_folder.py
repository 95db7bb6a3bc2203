"""A run in its folder: checkpoints with a checksum of themselves, the one that a path stands for, and the records."""

import hashlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from models.files.pickled_file import read_pickled
from system.paths import way_out
from system.plain_yaml import read_yaml
from system.wording import unwrapped

SEAL = b"sha256:"
SEAL_BYTES = len(SEAL) + 64
"""The seal is the comment that a zip archive may end with; its length stands in the two bytes before it."""
CHUNK_BYTES = 2**20


def write_sealed(content: dict[str, Any], path: Path) -> None:
    """Writes tensors and plain values for `torch.load`, sealed with their SHA-256; not atomic by itself. Raises OSError
    where the disk is full or the folder cannot be written to."""
    with path.open("wb+") as file:
        writer = _Hashing(file)
        try:
            torch.save(content, writer)  # type: ignore[arg-type]
        except RuntimeError:
            if writer.error is not None:  # torch knows no OSError
                raise writer.error from None
            raise
        file.seek(-2, 2)
        file.write(struct.pack("<H", SEAL_BYTES) + SEAL + writer.digest.hexdigest().encode())


def check_seal(path: Path) -> bool:
    """Compares a file with its seal and returns whether it has one, which files of other programs have not; ValueError
    where the content is another than the sealed one."""
    num_bytes = path.stat().st_size - SEAL_BYTES - 2
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(max(num_bytes, 0))
        tail = file.read()
        if num_bytes < 0 or not tail.startswith(struct.pack("<H", SEAL_BYTES) + SEAL):
            return False
        file.seek(0)
        while num_bytes > 0:
            chunk = file.read(min(CHUNK_BYTES, num_bytes))
            digest.update(chunk)
            num_bytes -= len(chunk)
    digest.update(b"\0\0")  # the length of the comment before the seal was set
    if digest.hexdigest().encode() != tail[2 + len(SEAL) :]:
        raise ValueError(f"{path} is damaged: its content does not have the checksum it was written with")
    return True


class _Hashing:
    """What `torch.save` writes to: a file, and the checksum of what went into it."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            number = self._put(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        return number

    def _put(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


NAME = re.compile(r"images_(\d{12})\.ckpt")
CHECKPOINTS = "checkpoints"


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint that a path stands for: a file; a run's folder, for its last sound one; or `last` or `best` in a
    run's folder or in its `checkpoints`, where no file is called so. FileNotFoundError where there is none, ValueError
    where none is as it was written, or the run has no best one."""
    return locate_checkpoint(path)[0]


def locate_checkpoint(path: Path | str) -> tuple[Path, bool]:
    """What `find_checkpoint` gives, and whether it has been compared with its seal on the way."""
    path = Path(path)
    if path.is_file():
        return path, False
    run, which = (path, "last") if path.is_dir() else (path.parent, path.name)
    run = run.parent if run.name == CHECKPOINTS else run
    if which not in ("last", "best") or not ((run / CHECKPOINTS).is_dir() or (run / "run.json").is_file()):
        kind = ", which is a folder without a run; name a file" if path.is_dir() else way_out(path)
        raise FileNotFoundError(f"there is no checkpoint at {path}{kind}")
    paths = checkpoints_in(run / CHECKPOINTS)
    if not paths:
        raise FileNotFoundError(f"there is no checkpoint at {path}: the run in {run} has written none yet")
    last, _ = _latest_sound(paths)
    if last is None:
        raise ValueError(f"all {len(paths)} checkpoints of {run} are damaged; put a copy back")
    return (last, True) if which == "last" else (_best(run, last), False)


def run_of(path: Path) -> Path | None:
    """The run that a folder is, or whose checkpoint a file is, by its record; None for what belongs to none."""
    folder = path if path.is_dir() else path.parent.parent
    is_inside = path.is_dir() or path.parent.name == CHECKPOINTS
    return folder if is_inside and (folder / "run.json").is_file() else None


def _best(run: Path, last: Path) -> Path:
    callbacks = read_pickled(last).values.get("callbacks")
    own = callbacks.get("RunCheckpoints") if isinstance(callbacks, dict) else None
    best = own.get("best") if isinstance(own, dict) else None
    if not isinstance(best, tuple) or len(best) != 2 or type(best[1]) is not int:
        raise ValueError(f"{run} has no best checkpoint, since it was not validated yet; name {run / 'last'}")
    path = checkpoint_path(run / CHECKPOINTS, best[1])
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}, which the run in {run} remembers as its best")
    return path


def checkpoint_path(folder: Path, images_seen: int) -> Path:
    """Where the checkpoint after so many images lies."""
    return folder / f"images_{images_seen:012}.ckpt"


def images_of(path: Path) -> int:
    """The images a checkpoint of `checkpoint_path` was written after."""
    return int(path.stem.removeprefix("images_"))


def checkpoints_in(folder: Path) -> list[Path]:
    """Whatever has the name of a checkpoint of a run, oldest first."""
    return sorted(p for p in folder.glob("images_*.ckpt") if NAME.fullmatch(p.name))


def latest_checkpoint(run_folder: Path) -> Path | None:
    """The latest checkpoint of a run, None for a new run; folders and links to nothing of such names are none."""
    paths = [path for path in checkpoints_in(run_folder / CHECKPOINTS) if path.is_file()]
    return paths[-1] if paths else None


def sound_checkpoint(run_folder: Path) -> tuple[Path | None, list[str]]:
    """The latest checkpoint that is as it was written, from which a run continues (None for a new run), and what is
    wrong with later ones. Raises ValueError where all are damaged."""
    paths = checkpoints_in(run_folder / CHECKPOINTS)
    path, problems = _latest_sound(paths)
    if path is None and paths:
        raise ValueError(
            f"all {len(paths)} checkpoints of {run_folder} are damaged ({problems[0]}); put a copy back, or remove "
            "them to begin again"
        )
    return path, problems


def _latest_sound(paths: list[Path]) -> tuple[Path | None, list[str]]:
    """The last of some checkpoints that is as it was written, and what is wrong with later ones."""
    problems: list[str] = []
    for path in reversed(paths):
        problem = _problem_of(path)
        if problem is None:
            return path, problems
        problems.append(problem)
    return None, problems


def _problem_of(path: Path) -> str | None:
    if not path.is_file():
        return f"{path} is damaged: it is a folder or a link to nothing"
    try:
        return None if check_seal(path) else f"{path} is damaged: it does not end with a checksum"
    except ValueError as error:
        return str(error)


def read_config(folder: Path) -> dict[str, Any]:
    """Reads the resolved configuration of a run; FileNotFoundError or ValueError where there is none or it is
    damaged."""
    config: dict[str, Any] = _read(folder / "config.yaml", read_yaml)
    try:
        numbers = (("run", "log_every_images"), ("run", "total_images"), ("data", "batch_size"))
        dict(config), [config[group][name] // 1 for group, name in numbers]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'config.yaml'} is damaged: it is no configuration of a run ({error})") from error
    return config


def read_record(folder: Path) -> dict[str, Any]:
    """Reads what a run was: `data`, the fingerprints of its faces, and `sessions`, each time it was begun or continued.
    Raises FileNotFoundError or ValueError where there is none or it is damaged."""
    record: dict[str, Any] = _read(folder / "run.json", lambda path: json.loads(path.read_text(encoding="utf-8")))
    try:
        dict(record["data"]), record["sessions"][-1]
        [session[name] for session in record["sessions"] for name in ("num_processes", "num_threads", "precision")]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'run.json'} is damaged: it is no record of a run ({error})") from error
    return record


def recorded(folder: Path) -> dict[str, Any]:
    """What `read_record` gives; empty `data` and `sessions` where it gives nothing."""
    try:
        return read_record(folder)
    except (FileNotFoundError, ValueError):
        return {"data": {}, "sessions": []}


def _read(path: Path, parse: Callable[[Path], Any]) -> Any:
    """A file of a record, with one line for whatever is wrong with it."""
    try:
        return parse(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{path.parent} holds no run: there is no {path.name}; give the folder of a run"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({unwrapped(error)[:200]})") from None
