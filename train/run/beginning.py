"""How a run begins or continues: what its folder holds decides, and no training is removed unasked."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.faces.listing import with_listed
from evaluation.reports.tables import read_rows
from models.files.run_folder import checkpoints_in, images_of, read_config, recorded, sound_checkpoint
from system import atomic_file
from system.command_line import print_names
from system.paths import check_apart
from train.run.record import describe_session, find_difference, flat_settings, write_record
from train.run.settings import has_all_images

OUTPUTS = ("run.json", "config.yaml", "train.csv", "validation.csv", "broken_faces.jsonl",
           "broken_validation_faces.jsonl", "checkpoints", "samples", "pictures", "non_finite", "wandb",
           "tensorboard")  # fmt: skip
"""What a run writes into its folder; the record is first, as without it a folder is no run, whoever looks meanwhile."""
OVERWRITE = "--run.overwrite true"


@dataclass(frozen=True)
class Start:
    """What `begin_or_continue` found in a run's folder."""

    checkpoint: Path | None
    """To continue from; None begins anew."""
    is_complete: bool

    @property
    def images_seen(self) -> int:
        """Images that the run has seen up to the checkpoint; 0 where it begins."""
        return images_of(self.checkpoint) if self.checkpoint else 0


def check_inputs(folder: Path, config: dict[str, Any], overwrite: bool) -> None:
    """Raises ValueError where a run's folder lies in its faces, or what it reads would be removed (`overwrite`)."""
    here = folder.resolve()
    for name in ("faces", "validation_faces", "degraded", "validation_degraded", "real_faces"):
        faces = config["data"].get(name)
        if faces is not None and (here == Path(faces).resolve() or Path(faces).resolve() in here.parents):
            raise ValueError(
                f"the run must not write into its own faces, got --run.folder {folder} inside --data.{name} {faces}; "
                "choose another folder"
            )
    if overwrite:
        _check_removable(folder, config)


def begin_or_continue(
    folder: Path,
    config: dict[str, Any],
    data: dict[str, str],
    overwrite: bool = False,
    is_first_process: bool = True,
    num_processes: int = 1,
) -> Start:
    """Writes config.yaml and run.json into a new run's folder, or checks that a continued run is the same.

    The configuration is resolved, nested dictionaries of plain values; `data` identifies the photographs. Only the
    first process decides and writes; the others take what they find. `overwrite` replaces a run that is complete, has
    other settings or an incomplete record; what is replaced stays in a hidden folder until the new run has written its
    first checkpoint. ValueError where the folder holds a run with another configuration or other photographs, training
    without its record, no run but files with the names of a run's, or damaged checkpoints only.
    """
    if not is_first_process:
        return Start(sound_checkpoint(folder)[0], False)
    start = _start_of(folder, config, data, overwrite)
    if start.is_complete:
        return start
    session = describe_session(start.images_seen, config, num_processes)
    record = recorded(folder) if start.checkpoint is not None else {"sessions": []}
    sessions = record["sessions"]
    if sessions and sessions[-1].get("precision") != session["precision"]:
        before, now = sessions[-1].get("precision"), session["precision"]
        print(f"precision: {before} up to now, {now} from image {start.images_seen:,} on, as asked")
    if start.checkpoint is None:
        _check_removable(folder, config)
        atomic_file.set_aside(folder, OUTPUTS)
    write_record(folder, {**record, "data": data, "sessions": [*sessions, session]})
    if start.checkpoint is None:
        atomic_file.write_atomically(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    return start


def _start_of(folder: Path, config: dict[str, Any], data: dict[str, str], overwrite: bool) -> Start:
    """Decides from what the folder holds; changes nothing."""
    anew = Start(None, False)
    found = [name for name in OUTPUTS if os.path.lexists(folder / name)]
    if not found:
        return anew
    if not _is_run(folder):
        raise ValueError(
            f"{folder} holds {found[0]} but no run (neither run.json nor checkpoints), so that nothing in it is "
            "removed; choose another --run.folder or move those files elsewhere"
        )
    if not checkpoints_in(folder / "checkpoints"):
        if not overwrite:
            _check_nothing_is_lost(folder)
        return anew
    try:
        checkpoint = _continued(folder, config, data)
    except (ValueError, FileNotFoundError):
        if overwrite:
            return anew
        raise
    is_complete = has_all_images(images_of(checkpoint), config["data"]["batch_size"], config["run"]["total_images"])
    return anew if is_complete and overwrite else Start(checkpoint, is_complete)


def _continued(folder: Path, config: dict[str, Any], data: dict[str, str]) -> Path:
    """The checkpoint from which this run can be continued."""
    try:
        difference = find_difference(folder, config, data)
    except (ValueError, FileNotFoundError) as error:
        newest = checkpoints_in(folder / "checkpoints")[-1].name
        way = (
            f"write it again with the options of that run (the same command with --print_config > {folder}/config.yaml)"
            if "config.yaml" in str(error)
            else "add --run.accept_other_faces true, as nothing says which faces it was trained on"
        )
        problem = str(error).removesuffix("; give the folder of a run")
        raise ValueError(
            f"{problem}, but {folder} holds checkpoints; to continue from the newest, {newest}, put a copy of the file "
            f"back or {way}; else choose another --run.folder or replace everything with {OVERWRITE}"
        ) from error
    if difference is not None:
        raise ValueError(
            f"{folder} holds a run with other settings ({difference[0]}); {difference[1]}; else choose another "
            f"--run.folder or replace it with {OVERWRITE}"
        )
    checkpoint, problems = sound_checkpoint(folder)
    assert checkpoint is not None  # there is one, and not all are damaged
    for problem in problems:
        print_names(f"{problem}; taking {checkpoint.name} instead")
    return checkpoint


def _is_run(folder: Path) -> bool:
    """Whether this project has marked a folder as a run: by a record, checkpoints, or what it set aside."""
    is_left = any(folder.glob(f"{atomic_file.ASIDE_PREFIX}*"))
    return is_left or bool(recorded(folder)["sessions"]) or bool(checkpoints_in(folder / "checkpoints"))


def _check_nothing_is_lost(folder: Path) -> None:
    """Refuses to begin anew where a run had got beyond its first checkpoint, or to its end, which has one too; before
    them there is nothing to lose."""
    begun_at = [session.get("images_seen", 0) for session in recorded(folder)["sessions"]]
    images_seen = max([*read_rows(folder / "train.csv"), *begun_at], default=0)
    try:
        settings = read_config(folder)
        batch_size, total_images = settings["data"]["batch_size"], settings["run"]["total_images"]
        first = settings["run"]["checkpoint_every_images"] + batch_size
        is_complete = has_all_images(images_seen, batch_size, total_images)
    except (FileNotFoundError, ValueError, KeyError):
        first, is_complete = 0, False
    if images_seen > first or is_complete or any(begun_at):
        raise ValueError(
            f"{folder} holds the record of a run up to image {images_seen:,} but none of its checkpoints; put one back "
            f"into {folder / 'checkpoints'} to continue, choose another --run.folder or begin again with {OVERWRITE}"
        )


def _check_removable(folder: Path, config: dict[str, Any]) -> None:
    """Refuses to remove what the run reads: every option whose value is a file or folder counts."""
    words = {"model.init_args.start": "which the run starts from"}
    inputs: dict[str, Path] = {}
    for name, value in flat_settings(config).items():
        if isinstance(value, str) and value and name != "run.folder":
            inputs[words.get(name, f"which the run reads (--{name})")] = Path(value).expanduser()
    if weights := os.environ.get("GPEN_WEIGHTS"):
        inputs["which the run reads (GPEN_WEIGHTS)"] = Path(weights)
    configs = {f"which the command names ({word})": Path(word.rpartition("=")[2]) for word in sys.argv[1:]}
    here = folder.resolve()
    present = {name: path for name, path in (inputs | configs).items() if _exists(path) and path.resolve() != here}
    check_apart([folder / name for name in OUTPUTS], with_listed(present), OVERWRITE)


def _exists(path: Path) -> bool:
    """Whether a value of an option names a file; longer texts than a name may have are none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
