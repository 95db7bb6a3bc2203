"""Repeating a part of a run in another folder, with the settings of its record, and comparing it bit for bit."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import torch
import yaml
from torch import Tensor

from evaluation.reports.tables import read_rows
from models.files.run_folder import CHECKPOINTS, check_seal, checkpoint_path, images_of, read_config, read_record
from system.child_processes import Children
from system.command_line import print_names
from system.wording import counted
from train.run.checkpoints import BEFORE, REPORT, STATE
from train.run.settings import WHOLE

CLOCK = ("speed/", "memory/")
"""Columns that depend on the clock and the machine."""
TABLES = ("train.csv", "validation.csv")


def verify(run: Path, num_images: int | None = None) -> bool:
    """Repeats the first images of a run (None: up to the first row of train.csv) in a temporary folder and prints what
    is equal and what differs; returns whether all is equal bit for bit. FileNotFoundError where the folder holds no
    run, ValueError where it cannot be repeated or nothing of it can be compared."""
    config, record = read_config(run), read_record(run)
    batch_size, total_images = config["data"]["batch_size"], config["run"]["total_images"]
    wanted = (num_images or min(config["run"]["log_every_images"], total_images)) // batch_size * batch_size
    if not 0 < wanted <= total_images:
        raise ValueError(
            f"--images must lie between one batch of {batch_size} and the {total_images} of the run, got {num_images}"
        )
    for name in TABLES:
        read_rows(run / name)  # a damaged one is told before the work
    stored = checkpoint_path(run / CHECKPOINTS, wanted)
    if stored.is_file():
        check_seal(stored)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        if config["run"].get("convolutions") != WHOLE:
            config["run"]["convolutions"] = str((run / "run.json").resolve())  # what was measured there
        problem = repeat(config, folder, wanted, record["sessions"][0]["num_threads"])
        if problem:
            raise ValueError(f"the run cannot be repeated: {problem}")
        repetition = read_record(folder)
        compared, different = compare_runs(run, folder, wanted)
    print_names(f"{run}: the first {wanted:,} images repeated; compared: {', '.join(compared) or 'nothing'}")
    if not compared:
        raise ValueError(f"nothing of {run} can be compared before image {wanted}; give more --images")
    if not different:
        print("equal bit for bit")
        return True
    print_names("different:", *different[:20])
    print_names("what is not as it was:", *(changes(record, repetition) or ["nothing that is recorded"]))
    return False


def replay(dump: Path, exact: bool = False, anomaly: bool = False) -> None:
    """Trains one iteration from a dumped state, a folder below non_finite/ of a run, or, if `exact`, again from the
    checkpoint before it, bit for bit, however long, and prints what happens; `anomaly` stops at the operation whose
    gradient is not finite, and names it. FileNotFoundError or ValueError where the folder is no dump of an update, or
    the record of its run is damaged."""
    path = dump / REPORT
    if not path.is_file():
        raise FileNotFoundError(
            f"{dump} is no dump of a skipped update: there is no {REPORT}; name a folder in non_finite/ of a run"
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        first, before = int(report["first"]), report["before"]  # nothing where the run had no checkpoint yet
        before_images = images_of(Path(before)) if before else 0
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); take another dump of the run") from error
    run = dump.resolve().parents[1]
    config, record = read_config(run), read_record(run)
    total_images = first + config["data"]["batch_size"]
    config["run"] |= {"log_every_images": config["data"]["batch_size"], "validate_every_images": 10**12}
    more = ["--trainer.detect_anomaly", "true"] if anomaly else []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        source = dump / (BEFORE if exact else STATE)
        images_seen = before_images if exact else first
        start = _place_start(source, images_seen, folder, config, record)
        print_names(f"training from {start} to image {total_images:,}")
        problem = repeat(config, folder, total_images, record["sessions"][-1]["num_threads"], *more)
        print_names(*_findings(folder / "train.csv", total_images, problem))


def repeat(config: dict[str, Any], folder: Path, total_images: int, num_threads: int, *options: object) -> str:
    """Trains in a folder up to an image, in processes of its own with so many threads, as sums depend on these; a
    checkpoint in the folder is continued. Gives why training ended with another exit code than 0, empty after success,
    whatever it printed; SystemExit where this process got a signal, which training got as well."""
    copy = json.loads(json.dumps(config))
    copy["run"] |= {"folder": str(folder), "total_images": total_images, "max_minutes": None}
    copy["run"] |= {"wandb": "off", "tensorboard": False}
    path = folder.with_name(f"{folder.name}.yaml")
    path.write_text(yaml.safe_dump(copy))
    command = ["-m", "train", "fit", "--config", str(path), *map(str, options)]
    with TemporaryFile() as errors, Children() as children:
        environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
        code = children.finish(children.start(command, environment, subprocess.DEVNULL, errors))
        errors.seek(0)
        return _cause(errors.read().decode(errors="replace"), code) if code else ""


def _cause(errors: str, code: int) -> str:
    """Why a command ended with a code other than 0: its line that begins with "error:", or its last one."""
    lines = errors.strip().splitlines()
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"{(named or lines or ['it said nothing'])[-1]} (exit code {code})"


def compare_runs(run: Path, repetition: Path, num_images: int) -> tuple[list[str], list[str]]:
    """Compares tables and, where both have one, the checkpoint after so many images: what was compared, where it
    differs."""
    compared, different = [], []
    for name in TABLES:
        rows, repeated = (_rows(folder / name, num_images) for folder in (run, repetition))
        if rows and repeated:
            compared.append(f"{counted(len(rows), 'row')} of {name}")
            ended = {num_images} - set(rows)  # the repetition ends there, with a row of its own
            for image in sorted((set(rows) | set(repeated)) - ended):
                before, now = rows.get(image, {}), repeated.get(image, {})
                names = [n for n in sorted({*before, *now}) if before.get(n, "") != now.get(n, "")]
                different += [f"{name} at image {image}: {n} {before.get(n)} was, {now.get(n)} now" for n in names]
    paths = [checkpoint_path(folder / "checkpoints", num_images) for folder in (run, repetition)]
    if all(path.is_file() for path in paths):
        compared.append(f"{paths[0].name}")
        stored, again = (torch.load(path, map_location="cpu", weights_only=True) for path in paths)
        for name in ("state_dict", "optimizer_states", "images_seen"):
            different += [f"{paths[0].name}: {place}" for place, *_ in differences(stored[name], again[name], name)]
    return compared, different


def differences(before: Any, now: Any, name: str) -> list[tuple[str, Any, Any]]:
    """Where two nested structures of tensors and plain values differ in any bit, with both values."""
    if isinstance(before, Tensor) and isinstance(now, Tensor):
        return [] if torch.equal(before, now) else [(name, before, now)]
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        pairs = [(key, before[key], now[key]) for key in before]
    elif isinstance(before, list | tuple) and isinstance(now, list | tuple) and len(before) == len(now):
        pairs = list(zip(range(len(now)), before, now, strict=True))
    else:
        return [] if before == now else [(name, before, now)]
    return [place for key, was, is_now in pairs for place in differences(was, is_now, f"{name}.{key}")]


def changes(record: dict[str, Any], repetition: dict[str, Any]) -> list[str]:
    """What a run's bits depend on and what is not the same any more."""
    then, again = ({**of["sessions"][0], "command": None} for of in (record, repetition))
    found = differences(then, again, "session") + differences(record["data"], repetition["data"], "data")
    return [f"{place}: {before} was, {now} now" for place, before, now in found]


def _rows(path: Path, num_images: int) -> dict[int, dict[str, str]]:
    rows = {images: cells for images, cells in read_rows(path).items() if images <= num_images}
    return {images: {n: v for n, v in cells.items() if not n.startswith(CLOCK)} for images, cells in rows.items()}


def _place_start(source: Path, images_seen: int, folder: Path, config: dict[str, Any], record: dict[str, Any]) -> str:
    """Puts the state to start from and a record where a run looks for them, and names the state."""
    if not source.is_file():
        return "the beginning of the run"
    target = checkpoint_path(folder / "checkpoints", images_seen)
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return f"{source.name} (image {images_seen:,})"


def _findings(table: Path, images_seen: int, problem: str) -> list[str]:
    """What the iteration logged, and which of it is not finite."""
    if not table.is_file():
        return [f"training ended before a row was written: {problem}"]
    row = read_rows(table).get(images_seen)
    if row is None:
        return [f"training ended before the iteration was done: {problem}"]
    values = {name: float(value) for name, value in row.items() if value}
    skipped = [name.partition("/")[0] for name in ("generator/skipped", "discriminator/skipped") if values[name] > 0]
    terms = [name for name, value in values.items() if value != value]
    lines = [f"{name} is not finite" for name in terms]
    if skipped:
        return [*lines, f"repeated: updates of the {' and the '.join(skipped)} are skipped again"]
    return [*lines, "not repeated: every update of the iteration is finite from this state; try --exact"]
