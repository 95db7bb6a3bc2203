"""The files that say what a run was: configuration, versions, data, command, formulations of its convolutions."""

import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning.strategies import Strategy
from torch import Tensor

from models.files.release_file import FORMAT, read_safetensors
from models.files.run_folder import latest_checkpoint, read_config, read_record, recorded
from models.operators.formulations import Formulation, choosing, fastest
from system import atomic_file, machine
from train.run.settings import MEASURED, WHOLE, FaceSettings, RunSettings

MAY_CHANGE = ("trainer.", "data.num_workers", "data.cache_mebibytes", "data.max_broken_share", "data.faces",
              "data.validation_faces", "data.degraded", "data.validation_degraded", "data.real_faces", "run.folder",
              "run.total_images", "run.max_minutes", "run.keep_checkpoints", "run.wandb", "run.tensorboard",
              "run.max_skipped_updates", "run.num_parts", "run.overwrite", "run.convolutions",
              "run.accept_other_faces")  # fmt: skip
"""Options that may differ when a run is continued: machine facts and the end of the run. The faces may move, but their
fingerprint is compared."""
FINGERPRINTS = {
    "fingerprint": ("faces to train on", "num_faces"),
    "contents": ("pixels of the faces to train on", "num_faces"),
    "validation_fingerprint": ("faces held out for validation", "num_validation_faces"),
    "validation_contents": ("pixels of the faces held out for validation", "num_validation_faces"),
    "degraded_contents": ("degraded versions of the faces to train on", "num_faces"),
    "validation_degraded_contents": ("degraded versions of the held-out faces", "num_validation_faces"),
}
"""Which photographs an entry of the record identifies, and where their number stands."""
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "kornia", "numpy", "pillow")


def settle_precision(asked: str | int | None, folder: Path, overwrite: bool, on_gpu: bool) -> machine.Precision:
    """The precision of a run; "auto" keeps that of the run in the folder, which need not exist, unless that may be
    replaced; else it is the machine's fastest. Raises ValueError where another precision was asked for."""
    if asked == machine.AUTO:
        is_continued = not overwrite and latest_checkpoint(folder) is not None
        sessions = recorded(folder)["sessions"] if is_continued else []
        if not sessions:
            return machine.fastest_precision(on_gpu)
        return machine.Precision(sessions[-1]["precision"], "as this run has trained up to now")
    name = machine.FLOAT32 if asked is None else str(asked)  # as Lightning takes null
    if name not in (machine.FLOAT32, machine.BF16):
        raise ValueError(
            f"trainer.precision must be auto, {machine.FLOAT32} or {machine.BF16}, got {name}"
            + ("; fp16 needs a gradient scaler, which is not supported" if "16" in name and "bf" not in name else "")
        )
    return machine.Precision(name, "as asked")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes run.json."""
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
        "start_history": _start_history(config) if images_seen == 0 else None,
        "machine": {
            "system": platform.platform(),
            "processor": machine.processor(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "cuda": torch.version.cuda,
        },
        "versions": machine.versions(PACKAGES),
    }


def _start_history(config: dict[str, Any]) -> str | None:
    """The trainings that a release file says led to it: later the file may be another one of the same name."""
    start = config["model"]["init_args"].get("start")
    if not start or Path(start).suffix != ".safetensors" or not Path(start).is_file():
        return None
    metadata = read_safetensors(Path(start)).metadata  # its tensors stay in the file
    return metadata.get("history") if metadata.get("format") == FORMAT else None


def find_difference(folder: Path, config: dict[str, Any], data: dict[str, str]) -> tuple[str, str] | None:
    """What makes a run another than the one in its folder: the first option or identity of photographs (`data`) that
    differs with both values, and the way out; None where all is the same. FileNotFoundError or ValueError where the
    record is incomplete or damaged."""
    before, now = flat_settings(read_config(folder)), flat_settings(config)
    names = sorted(set(before) | set(now))
    changed = [n for n in names if before.get(n) != now.get(n) and not n.startswith(MAY_CHANGE)]
    # An option that is newer than the record was at its default.
    new = {n.partition(".")[0] for n in changed if n not in before}
    defaults = {n: v for group in new for n, v in default_settings(group, config["model"]["class_path"]).items()}
    changed = [n for n in changed if n in before or n not in defaults or now[n] != defaults[n]]
    stored = {} if config["run"].get("accept_other_faces") else read_record(folder)["data"]
    known = [n for n in FINGERPRINTS if n in stored or (stored and "degraded" in n)]  # absent: degraded by the preset
    other_faces = [n for n in known if stored.get(n) != data.get(n)]
    if not changed and not other_faces:
        return None
    if changed:
        name, in_all = changed[0], len(changed) + len(other_faces)
        difference = f"{name} was {before.get(name)}, now {now.get(name)}; {in_all} differ in all"
        return difference, "continue it with its own settings"
    faces, number = FINGERPRINTS[other_faces[0]]
    numbers = (stored.get(number), data.get(number))
    how = f"{numbers[0]}, now {numbers[1]}" if numbers[0] != numbers[1] else f"{numbers[0]} as before, but others"
    return f"{faces}: {how}", (
        "put the former ones back, or train on with these from the newest checkpoint by --run.accept_other_faces true"
    )


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """A nested configuration as one dictionary with dotted names."""
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    return {k: v for name, value in values.items() for k, v in flat_settings(value, f"{prefix}{name}.").items()}


def default_settings(group: str, class_path: str) -> dict[str, Any]:
    """Defaults of a group of options (model, data or run; any other has none), by their dotted names in a
    configuration, in its plain values; `class_path` is the model's."""
    if group == "model":
        module, _, name = class_path.rpartition(".")
        return _defaults(getattr(import_module(module), name), "model.init_args.")
    owners: dict[str, type] = {"data": FaceSettings, "run": RunSettings}
    return _defaults(owners[group], f"{group}.") if group in owners else {}


def _defaults(owner: type, prefix: str) -> dict[str, Any]:
    parameters = signature(owner).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    plain: dict[str, Any] = json.loads(json.dumps(defaults, default=_plain))
    return flat_settings(plain, prefix)


def _plain(value: Any) -> Any:
    """What JSON knows, of a dataclass or a path."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


LOCK_NAME = "run.lock"


@contextmanager
def only_command(folder: Path) -> Iterator[None]:
    """Inside, no other command can enter for the same folder, which is made if need be; only the first process of a run
    enters.

    The lock is the kernel's (flock on `run.lock`): it ends with the process, however that ends, and the processes it
    starts do not inherit it. It holds between the machines of NFS from Linux 2.6.12 on; where a file system has no
    flock, filelock says so and keeps a file with the process's number instead, which it removes if that is gone.
    BlockingIOError where another command is inside, OSError where the folder cannot be written to.
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


RECORD, CHOICES = "run.json", "convolutions"


@contextmanager
def kept_formulations(settings: RunSettings, strategy: Strategy) -> Iterator[None]:
    """Inside, convolutions are computed in the formulations of the run's record, which grows by what is measured.

    The first process of a run decides for all, so that all sum in the same order. A continued run keeps to its record,
    also on another machine: it stays the same run, bit for bit. The folder's record is written already. ValueError
    where `convolutions` names a file that is no record of a run.
    """
    if settings.convolutions == WHOLE:
        yield
        return
    record = settings.folder / RECORD
    others = {} if settings.convolutions == MEASURED else _choices_of(Path(settings.convolutions))

    def decide(name: str, candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
        choice: Formulation = "whole"
        if strategy.is_global_zero:
            own = _choices_of(record)
            kept = own.get(name, others.get(name))
            matching = [formulation for formulation in candidates if formulation == kept]
            choice = matching[0] if matching else fastest(candidates)
            if own.get(name) != choice:
                write_record(settings.folder, {**json.loads(record.read_text()), CHOICES: {**own, name: choice}})
        return strategy.broadcast(choice)

    with choosing(decide):
        yield


def _choices_of(record: Path) -> dict[str, Any]:
    try:
        choices: dict[str, Any] = json.loads(record.read_text()).get(CHOICES, {})
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"run.convolutions must be {MEASURED}, {WHOLE} or the {RECORD} of a run, got {record} ({error}); change it"
        ) from error
    return choices
