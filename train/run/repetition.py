"""Repeating a part of a run in another folder, with the settings of its record."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

LINKED = (("model", "init_args", "seed"), ("model", "init_args", "num_parts"), ("data", "seed"),
          ("data", "total_images"), ("data", "report_folder"))  # fmt: skip
"""Options that follow from those of `run`."""


def read_record(run_folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads config.yaml and run.json.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: The record is damaged.
    """
    for name in ("config.yaml", "run.json"):
        if not (run_folder / name).is_file():
            raise FileNotFoundError(f"{run_folder} holds no run: there is no {name}; give the folder of a run")
    try:
        config = yaml.safe_load((run_folder / "config.yaml").read_text())
        record = json.loads((run_folder / "run.json").read_text())
        record["sessions"][0]["num_processes"], config["run"]["log_every_images"]
    except (yaml.YAMLError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"the record of {run_folder} is damaged ({' '.join(str(error).split())})") from error
    return config, record


def repeat(config: dict[str, Any], folder: Path, total_images: int, num_threads: int, *options: object) -> str:
    """Trains in a folder up to an image, in processes of its own.

    Args:
        config: Of the run that is repeated.
        folder: To write to; a checkpoint in it is continued.
        total_images: Where to end.
        num_threads: Of each process, as sums depend on it.
        options: More arguments of `python -m train fit`.

    Returns:
        What training printed to standard error, empty after success.
    """
    copy = json.loads(json.dumps(config))
    for *groups, name in LINKED:
        group = copy
        for key in groups:
            group = group[key]
        group.pop(name, None)
    copy["run"] |= {"folder": str(folder), "total_images": total_images, "wandb": "off", "tensorboard": False}
    path = folder.with_name(f"{folder.name}.yaml")
    path.write_text(yaml.safe_dump(copy))
    command = [sys.executable, "-m", "train", "fit", "--config", str(path), *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    return done.stderr.strip() or (f"exit code {done.returncode}" if done.returncode else "")
