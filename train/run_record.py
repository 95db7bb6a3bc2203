"""The files that say what a run was: resolved configuration, versions, data, command."""

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import atomic_file
from train.run_checkpoints import latest_checkpoint

MAY_CHANGE = ("trainer.", "data.num_workers", "data.cache_mebibytes", "data.total_images", "run.folder",
              "run.total_images", "run.keep_checkpoints", "run.wandb", "run.tensorboard", "run.max_skipped_updates",
              "data.faces", "data.validation_faces", "data.seed", "model.init_args.seed",
              "run.num_parts", "model.init_args.num_parts")  # fmt: skip
"""Options that may differ when a run is continued: machine facts and the end of the run. The faces may move, but their
fingerprint is compared. Seeds of data and model are run.seed, which is compared itself."""
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "kornia", "numpy", "pillow")


def record_run(folder: Path, config: dict[str, Any], data: dict[str, str]) -> None:
    """Writes config.yaml and run.json into a new run's folder, or checks that a continued run is the same.

    Args:
        folder: Of the run.
        config: Resolved configuration: nested dictionaries of plain values.
        data: What identifies the photographs.

    Raises:
        ValueError: The folder holds a run with another configuration or other photographs.
    """
    path = folder / "config.yaml"
    if path.is_file() and latest_checkpoint(folder) is not None:  # a run that broke off before has nothing to lose
        _check_same(folder, config, data)
        return
    atomic_file.write_atomically(path, yaml.safe_dump(config, sort_keys=False))
    record = {
        "command": [sys.executable.rsplit("/", 1)[-1], *sys.argv],
        "data": data,
        "git_commit": _git_commit(),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "versions": {name: version(name) for name in PACKAGES},
    }
    atomic_file.write_atomically(folder / "run.json", json.dumps(record, indent=2) + "\n")


def _check_same(folder: Path, config: dict[str, Any], data: dict[str, str]) -> None:
    before, now = _flat(yaml.safe_load((folder / "config.yaml").read_text())), _flat(config)
    names = sorted(set(before) | set(now))
    changed = [n for n in names if before.get(n) != now.get(n) and not n.startswith(MAY_CHANGE)]
    stored = json.loads((folder / "run.json").read_text())["data"]
    changed += [n for n in ("fingerprint", "validation_fingerprint") if stored[n] != data[n]]
    if changed:
        name = changed[0]
        raise ValueError(
            f"{folder} holds a run with other settings ({name} was {before.get(name, stored.get(name))}, now "
            f"{now.get(name, data.get(name))}; {len(changed)} differ in all); continue it with its own settings or "
            "choose another --run.folder"
        )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    return {k: v for name, value in values.items() for k, v in _flat(value, f"{prefix}{name}.").items()}


def _git_commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
