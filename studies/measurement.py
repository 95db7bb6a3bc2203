"""Measuring one network on the faces of a protocol, once."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.degradation.presets import PRESETS_FOLDER, load_preset
from data.faces.files import fingerprint, open_faces
from studies.comparison import TestProtocol

ROOT = Path(__file__).resolve().parents[1]


def evaluate_checkpoint(
    checkpoint: Path, protocol: TestProtocol, folder: Path, environment: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """Runs `python -m scripts.evaluate` for each degradation, unless its complete results are there already.

    Results count as complete if they are of the same file, faces (names and sizes), values of the degradation, seed,
    metrics and number of faces. A metric that was unavailable then is not tried again; remove the folder for that.

    Args:
        checkpoint: What restores.
        protocol: On what.
        folder: Gets one folder for each degradation, named like its preset.
        environment: Variables to add for the process, such as the number of threads.

    Returns:
        Short name of the degradation to the folder of its results.

    Raises:
        FileNotFoundError: There is no such checkpoint, preset or folder of faces.
        ValueError: The evaluation failed; holds the last line that it printed.
    """
    digest = file_digest(checkpoint)
    folders = {}
    for name, degradation in protocol.preset_names().items():
        folders[name] = folder / name
        if not _is_complete(folders[name], _expected(protocol, degradation, digest), protocol.metrics):
            _evaluate(checkpoint, protocol, degradation, folders[name], environment or {})
    return folders


def file_digest(path: Path) -> str:
    """SHA-256 of a checkpoint or exported model.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint or exported model at {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expected(protocol: TestProtocol, degradation: str, digest: str) -> dict[str, Any]:
    """What the protocol in metrics.json has to say."""
    faces = open_faces(protocol.faces)
    values = {
        "model_sha256": digest,
        "faces_fingerprint": fingerprint(faces),
        "degradation_values": asdict(load_preset(degradation)),
        "seed": protocol.seed,
        "num_faces": min(len(faces), protocol.max_faces or len(faces)),
    }
    stored: dict[str, Any] = json.loads(json.dumps(values))  # as JSON gives it back
    return stored


def _is_complete(folder: Path, expected: Mapping[str, Any], metrics: tuple[str, ...]) -> bool:
    """Whether a folder holds whole results of exactly this evaluation."""
    try:
        summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
            num_rows = sum(1 for _ in csv.DictReader(file))
        found = set(summary["restored"]) | set(summary["unavailable"])
        stored = summary["protocol"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False  # never finished, or damaged: it is measured again
    is_same = all(stored.get(name) == value for name, value in expected.items())
    wanted = {"psnr", *metrics}
    return is_same and num_rows == expected["num_faces"] and wanted == {n for n in found if "_torchmetrics" not in n}


def _evaluate(
    checkpoint: Path, protocol: TestProtocol, degradation: str, folder: Path, environment: Mapping[str, str]
) -> None:
    """Measures in a process of its own."""
    (folder / "metrics.json").unlink(missing_ok=True)  # written last: without it the folder is not complete
    is_name = (PRESETS_FOLDER / f"{degradation}.yaml").is_file()
    options = {
        "--checkpoint": checkpoint.resolve(),
        "--faces": protocol.faces.resolve(),
        "--degradation": degradation if is_name else Path(degradation).resolve(),
        "--seed": protocol.seed,
        "--output": folder.resolve(),
        **({} if protocol.max_faces is None else {"--max-faces": protocol.max_faces}),
    }
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "scripts.evaluate", "--overwrite", *words, "--metrics", *protocol.metrics]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(
            f"{checkpoint.name} cannot be measured under {degradation}: {lines[-1].removeprefix('error: ')}"
        )
