"""Members of comparisons whose numbers were chosen by hand."""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from studies.comparison import Comparison, Member, Variant
from studies.report.page import write_comparison
from studies.request import MeasurementSettings

MakeMember = Callable[..., Member]
Compare = Callable[..., Comparison]
CONCAT = [[20.0, 21.0, 22.0, 23.0, 24.0], [20.2, 21.2, 22.2, 23.2, 24.2]]
ADD = [[19.0, 20.0, 21.0, 22.0, 23.0], [19.1, 20.1, 21.1, 22.1, 23.1]]
FACES = ("0.png", "1.png", "2.png", "3.png", "more/4.png")


@pytest.fixture
def make_member(tmp_path: Path, release: Path) -> MakeMember:
    """Writes results with the given values per face for each degradation, and a run with the given train.csv."""
    return partial(write_member, tmp_path / "members", release)


@pytest.fixture
def compare(faces_folder: Path) -> Compare:
    """A comparison of variants, the first one being the reference."""
    return partial(comparison_of, faces_folder)


@pytest.fixture(scope="session")
def comparison(
    tmp_path_factory: pytest.TempPathFactory, release: Path, draw_faces: Callable[[Path], Path]
) -> Comparison:
    """Two variants with two seeds each; all of `add` is about one decibel worse."""
    folder = tmp_path_factory.mktemp("comparison")
    draw_faces(folder / "faces")
    variants = []
    for name, columns in (("concat", CONCAT), ("add", ADD)):
        run = {"settings": {"noise": name}, "validation": [(0, 10.0), (1000, 20.0), (2000, 21.0)]}
        members = [
            write_member(folder, release, f"seed {i}", {"small": {"psnr": c, "fid": [30.0 + i]}}, run, name)
            for i, c in enumerate(columns)
        ]
        variants.append(Variant(name, f"noise {name}", tuple(members)))
    return comparison_of(folder / "faces", *variants)


@pytest.fixture(scope="session")
def written(comparison: Comparison) -> Path:
    """The folder of its report."""
    return write_comparison(comparison, comparison.faces.parent / "out").parent


def write_member(
    place: Path,
    release: Path,
    name: str,
    tables: Mapping[str, Mapping[str, Sequence[float]]],
    run: Mapping[str, Any] | None = None,
    folder: str = "a",
    **protocol: object,
) -> Member:
    """Results and perhaps a run of the tiny restorer."""
    place = place / folder / name
    evaluations = {
        degradation: write_evaluation(place / degradation, values, release, **protocol)
        for degradation, values in tables.items()
    }
    return Member(name, release, {} if run is None else {"restoration": write_run(place / "run", **run)}, evaluations)


def comparison_of(faces: Path, *variants: Variant, **more: Any) -> Comparison:
    """With the first variant as reference."""
    fields: dict[str, Any] = {"missing": {}, "commands": "python -m scripts.compare_runs …", "question": "Which?"}
    fields |= {
        "variants": variants,
        "reference": variants[0].name,
        "faces": faces,
        "measurement": MeasurementSettings(("small",)),
    }
    return Comparison("A title", **fields | more)


def write_evaluation(folder: Path, values: Mapping[str, Sequence[float]], checkpoint: Path, **protocol: object) -> Path:
    """What scripts.evaluate would write; a metric with one value is one of the whole set; degraded is one less."""
    folder.mkdir(parents=True)
    per_face = {metric: column for metric, column in values.items() if len(column) == len(FACES)}
    with (folder / "per_image.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *(f"{state}_{metric}" for state in ("degraded", "restored") for metric in per_face)])
        for index, name in enumerate(FACES):
            restored = [column[index] for column in per_face.values()]
            writer.writerow([name, *(value - 1 for value in restored), *restored])
    means = {metric: {"mean": sum(column) / len(column)} for metric, column in values.items()}
    stored = {
        "images_fingerprint": "f" * 64,
        "faces_fingerprint": "e" * 64,
        "num_faces": len(FACES),
        "resolution": 32,
        "degradation_values": {"first": {"noise_sigma_range": [0.0, 10.0]}},
        "seed": 0,
        "input": "8 bits",
        "model_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "metrics": {metric: f"definition of {metric}" for metric in values},
        "versions": {"torch": "2.0"},
        **protocol,
    }
    unavailable = {"lpips": "there is no /data/alice/alexnet.pth"}
    summary = {"restored": means, "degraded": means, "unavailable": unavailable, "protocol": stored}
    (folder / "metrics.json").write_text(json.dumps(summary))
    return folder


def write_run(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    train: Sequence[tuple[int, float]] = ((1000, 50.0), (2000, 100.0)),
    validation: Sequence[tuple[int, float]] = (),
    num_sessions: int = 1,
    git_dirty: bool = False,
) -> Path:
    """A run's record: (images seen, images per second) and (images seen, PSNR) per row."""
    (folder / "checkpoints").mkdir(parents=True)
    config = {
        "model": {"init_args": {"start": None, "seed": 0, **(settings or {})}},
        "data": {"faces": "/data/alice/faces", "batch_size": 8},
        "run": {"folder": "/data/alice/runs/x", "seed": 0, "log_every_images": 1000, "total_images": 2000},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    session = {
        "git_commit": "0123456789abcdef0123",
        "git_dirty": git_dirty,
        "num_processes": 1,
        "num_threads": 2,
        "precision": "bf16-mixed",
        "machine": {"processor": "a processor", "gpus": []},
        "versions": {"torch": "2.0"},
    }
    record = {"data": {"num_faces": "7", "fingerprint": "d" * 64}, "sessions": [session] * num_sessions}
    (folder / "run.json").write_text(json.dumps(record))
    rows = [f"{images},{speed},{2 / images}\n" for images, speed in train]
    (folder / "train.csv").write_text("images_seen,speed/images_per_second,generator/l1\n" + "".join(rows))
    if validation:
        rows = [f"{images},{psnr}\n" for images, psnr in validation]
        (folder / "validation.csv").write_text("images_seen,validation/psnr\n" + "".join(rows))
    return folder
