"""The files that say what a run was: resolved configuration, versions, data, command."""

import json
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout

from system import atomic_file, machine
from train.run.checkpoints import images_of, latest_checkpoint, sound_checkpoint
from train.run.settings import is_whole

MAY_CHANGE = ("trainer.", "data.num_workers", "data.cache_mebibytes", "data.total_images", "run.folder",
              "run.total_images", "run.keep_checkpoints", "run.wandb", "run.tensorboard", "run.max_skipped_updates",
              "data.faces", "data.validation_faces", "data.seed", "model.init_args.seed",
              "run.num_parts", "model.init_args.num_parts", "run.overwrite", "data.max_broken_share",
              "data.report_folder")  # fmt: skip
"""Options that may differ when a run is continued: machine facts and the end of the run. The faces may move, but their
fingerprint is compared. Seeds of data and model are run.seed, which is compared itself."""
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "kornia", "numpy", "pillow")


OUTPUTS = ("config.yaml", "run.json", "train.csv", "validation.csv", "broken_faces.jsonl",
           "broken_validation_faces.jsonl", "checkpoints", "samples", "pictures", "non_finite", "wandb",
           "tensorboard")  # fmt: skip
"""What a run writes into its folder."""


@dataclass(frozen=True)
class Start:
    """What `begin_or_continue` found in a run's folder."""

    checkpoint: Path | None
    """To continue from; None begins anew."""
    is_complete: bool
    """Whether the run has seen all its images."""

    @property
    def images_seen(self) -> int:
        """Of the checkpoint."""
        return images_of(self.checkpoint) if self.checkpoint else 0


def check_inputs(folder: Path, config: dict[str, Any], overwrite: bool) -> None:
    """Refuses a run whose outputs would end up among its inputs.

    Args:
        folder: Of the run; need not exist.
        config: Resolved configuration.
        overwrite: Whether what is in the folder may be removed.

    Raises:
        ValueError: The folder lies in the faces, or what the run starts from lies in a folder that would be emptied.
    """
    here = folder.resolve()
    for name in ("faces", "validation_faces"):
        faces = config["data"].get(name)
        if faces is not None and (here == Path(faces).resolve() or Path(faces).resolve() in here.parents):
            raise ValueError(
                f"the run must not write into its own faces, got --run.folder {folder} inside --data.{name} {faces}; "
                "choose another folder"
            )
    start = config["model"]["init_args"].get("start")
    if overwrite and start is not None and here in Path(start).resolve().parents:
        raise ValueError(
            f"--run.overwrite would remove {start}, which the run starts from; choose another --run.folder"
        )


def begin_or_continue(
    folder: Path,
    config: dict[str, Any],
    data: dict[str, str],
    overwrite: bool = False,
    is_first_process: bool = True,
    num_processes: int = 1,
) -> Start:
    """Writes config.yaml and run.json into a new run's folder, or checks that a continued run is the same.

    Args:
        folder: Of the run.
        config: Resolved configuration: nested dictionaries of plain values.
        data: What identifies the photographs.
        overwrite: Replace a run that is complete or has other settings.
        is_first_process: Only the first process of a run writes.
        num_processes: Of the run.

    Raises:
        ValueError: The folder holds a run with another configuration or other photographs, no run but files with the
            names of a run's, or damaged checkpoints only.
    """
    if is_first_process and not overwrite:
        _check_is_run(folder)
    start = _start_of(folder, config, data, overwrite)
    if start.is_complete or not is_first_process:
        return start
    session = describe_session(start.images_seen, config, num_processes)
    if start.checkpoint is not None:
        record = json.loads((folder / "run.json").read_text())
        before = record["sessions"][-1]["precision"]
        if before != session["precision"]:
            print(
                f"precision: {before} up to now, {session['precision']} from image {start.images_seen:,} on, as asked"
            )
        record["sessions"].append(session)
        _write_record(folder, record)
    else:
        _remove_outputs(folder)
        _write_record(folder, {"data": data, "sessions": [session]})
        atomic_file.write_atomically(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    return start


def settle_precision(asked: str | int | None, folder: Path, overwrite: bool, on_gpu: bool) -> machine.Precision:
    """The precision of a run; "auto" keeps that of the run in the folder, else it is the machine's fastest.

    Args:
        asked: trainer.precision.
        folder: Of the run; need not exist.
        overwrite: Whether the run in the folder may be replaced: then its precision does not count.
        on_gpu: Whether a GPU computes.

    Raises:
        ValueError: Another precision was asked for.
    """
    if asked == machine.AUTO:
        is_continued = not overwrite and (folder / "run.json").is_file() and latest_checkpoint(folder) is not None
        if not is_continued:
            return machine.fastest_precision(on_gpu)
        last_session = json.loads((folder / "run.json").read_text())["sessions"][-1]
        return machine.Precision(last_session["precision"], "as this run has trained up to now")
    name = machine.FLOAT32 if asked is None else str(asked)  # as Lightning takes null
    if name not in (machine.FLOAT32, machine.BF16):
        raise ValueError(
            f"trainer.precision must be auto, {machine.FLOAT32} or {machine.BF16}, got {name}"
            + ("; fp16 needs a gradient scaler, which is not supported" if "16" in name and "bf" not in name else "")
        )
    return machine.Precision(name, "as asked")


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    atomic_file.write_atomically(folder / "run.json", json.dumps(record, indent=2) + "\n")


def describe_session(images_seen: int, config: dict[str, Any], num_processes: int) -> dict[str, Any]:
    """What else the bits of a run depend on: command, code, versions, machine, division of the batches."""
    return {
        "images_seen": images_seen,
        "command": [sys.executable.rsplit("/", 1)[-1], *sys.argv],
        **machine.code_state(),
        "seed": config["run"]["seed"],
        "num_processes": num_processes,
        "num_parts": config["run"].get("num_parts", 1),
        "precision": str(config["trainer"].get("precision") or "32-true"),
        "num_threads": torch.get_num_threads(),
        "machine": {
            "system": platform.platform(),
            "processor": machine.processor(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "cuda": torch.version.cuda,
        },
        "versions": machine.versions(PACKAGES),
    }


def _start_of(folder: Path, config: dict[str, Any], data: dict[str, str], overwrite: bool) -> Start:
    """Decides from what the folder holds; changes nothing."""
    record = folder / "run.json"
    if not record.is_file() or not (folder / "config.yaml").is_file():
        return Start(None, False)
    if not any((folder / "checkpoints").glob("images_*.ckpt")):  # a run that broke off before has nothing to lose
        return Start(None, False)
    difference = _difference(folder, config, data)
    if difference is not None:
        if overwrite:
            return Start(None, False)
        raise ValueError(
            f"{folder} holds a run with other settings ({difference}); continue it with its own settings, choose "
            "another --run.folder or replace it with --run.overwrite true"
        )
    checkpoint, problems = sound_checkpoint(folder)
    assert checkpoint is not None  # there is one, and not all are damaged
    for problem in problems:
        print(f"{problem}; taking {checkpoint.name} instead", flush=True)
    is_complete = is_whole(images_of(checkpoint), config["data"]["batch_size"], config["run"]["total_images"])
    return Start(None, False) if is_complete and overwrite else Start(checkpoint, is_complete)


def _check_is_run(folder: Path) -> None:
    found = [name for name in OUTPUTS if (folder / name).exists()]
    if found and not (folder / "run.json").is_file():
        raise ValueError(
            f"{folder} holds {found[0]} but no run (run.json); choose another --run.folder, or replace it with "
            "--run.overwrite true"
        )


def _remove_outputs(folder: Path) -> None:
    for name in ("run.json", *OUTPUTS):  # without its record a folder is no run, whoever looks in the meantime
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _difference(folder: Path, config: dict[str, Any], data: dict[str, str]) -> str | None:
    """The first setting that differs from the run in the folder."""
    before, now = flat_settings(yaml.safe_load((folder / "config.yaml").read_text())), flat_settings(config)
    names = sorted(set(before) | set(now))
    changed = [n for n in names if before.get(n) != now.get(n) and not n.startswith(MAY_CHANGE)]
    stored = json.loads((folder / "run.json").read_text())["data"]
    changed += [n for n in ("fingerprint", "validation_fingerprint") if stored[n] != data[n]]
    if not changed:
        return None
    name = changed[0]
    return (
        f"{name} was {before.get(name, stored.get(name))}, now {now.get(name, data.get(name))}; "
        f"{len(changed)} differ in all"
    )


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """A nested configuration as one dictionary with dotted names."""
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    return {k: v for name, value in values.items() for k, v in flat_settings(value, f"{prefix}{name}.").items()}


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
