"""Repeats the beginning of a run and compares it bit for bit: `python -m scripts.verify_run RUN --images N`."""

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from system import command_line
from train.run.checkpoints import checkpoint_path
from train.run.repetition import read_record, repeat

CLOCK = ("speed/", "memory/")
"""Columns that depend on the clock and the machine."""


def main() -> None:
    """Trains in a temporary folder and prints what is equal, what differs and what may have caused it."""
    parser = argparse.ArgumentParser(prog="python -m scripts.verify_run", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--images", type=int, help="repeat so many images, default: up to the first row of train.csv")
    options = parser.parse_args()
    config, record = read_record(options.run)
    batch_size = config["data"]["batch_size"]
    num_images = (options.images or config["run"]["log_every_images"]) // batch_size * batch_size
    if not 0 < num_images <= config["run"]["total_images"]:
        raise ValueError(
            f"--images must lie between one batch of {batch_size} and the {config['run']['total_images']} of the run, "
            f"got {options.images}"
        )
    first = record["sessions"][0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        problem = repeat(config, folder, num_images, first["num_threads"])
        if problem:
            raise ValueError(f"the run cannot be repeated: {problem}")
        _, repetition = read_record(folder)
        compared, different = compare_runs(options.run, folder, num_images)
    print(f"{options.run}: the first {num_images:,} images repeated; compared: {', '.join(compared) or 'nothing'}")
    if not compared:
        raise ValueError(f"nothing of {options.run} can be compared before image {num_images}; give more --images")
    if not different:
        print("equal bit for bit")
        return
    print("\n".join(["different:", *different[:20]]))
    print("\n".join(["what is not as it was:", *(changes(record, repetition) or ["nothing that is recorded"])]))
    sys.exit(1)


def compare_runs(run: Path, repetition: Path, num_images: int) -> tuple[list[str], list[str]]:
    """Compares tables and, where both have one, the checkpoint after so many images.

    Returns:
        What was compared, and where it differs.
    """
    compared, different = [], []
    for name in ("train.csv", "validation.csv"):
        one, other = (_rows(folder / name, num_images) for folder in (run, repetition))
        if one and other:
            compared.append(f"{len(one)} rows of {name}")
            for image in sorted(set(one) | set(other)):
                before, now = one.get(image, {}), other.get(image, {})
                names = [n for n in sorted({*before, *now} - {"images_seen"}) if before.get(n, "") != now.get(n, "")]
                different += [f"{name} at image {image}: {n} {before.get(n)} was, {now.get(n)} now" for n in names]
    paths = [checkpoint_path(folder / "checkpoints", num_images) for folder in (run, repetition)]
    if all(path.is_file() for path in paths):
        compared.append(f"{paths[0].name}")
        one, other = (torch.load(path, map_location="cpu", weights_only=True) for path in paths)
        for name in ("state_dict", "optimizer_states", "images_seen"):
            different += [f"{paths[0].name}: {place}" for place in differences(one[name], other[name], name)]
    return compared, different


def differences(one: Any, other: Any, name: str) -> list[str]:
    """Where two nested structures of tensors and plain values differ in any bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for key in one for d in differences(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{name}.{i}")]
    return [] if one == other else [name]


def changes(record: dict[str, Any], repetition: dict[str, Any]) -> list[str]:
    """What a run's bits depend on and what is not the same any more."""
    before, now = record["sessions"][0], repetition["sessions"][0]
    places = differences({k: v for k, v in before.items() if k != "command"},
                         {k: v for k, v in now.items() if k != "command"}, "session")  # fmt: skip
    places += differences(record["data"], repetition["data"], "data")
    return [f"{place}: {_at(record, place)} was, {_at(repetition, place)} now" for place in places]


def _at(record: dict[str, Any], place: str) -> Any:
    value: Any = {"session": record["sessions"][0], "data": record["data"]}
    for key in place.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def _rows(path: Path, num_images: int) -> dict[int, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["images_seen"]) <= num_images]
    return {int(row["images_seen"]): {n: v for n, v in row.items() if not n.startswith(CLOCK)} for row in rows}


if __name__ == "__main__":
    command_line.run(main)
