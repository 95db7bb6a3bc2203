import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.faces.files import open_faces
from evaluation.metrics.choice import choose_metrics
from evaluation.pairs import FacePairs
from evaluation.protocol import Evaluator
from evaluation.reports.pictures import write_png
from models import load_generator
from scripts.evaluate import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def options(release: Path, tmp_path: Path) -> list[object]:
    return ["--checkpoint", release, "--output", tmp_path / "out", "--metrics", "psnr", "ssim", "--device", "cpu"]


def test_the_files_hold_what_the_package_computes(
    run: Run, options: list[object], release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    words = ["--faces", faces_folder, "--degradation", "small", "--seed", 3, "--batch-size", 2]
    code, out, _ = run(main, *options, *words, "--background_color", "#FFFFFF")
    assert code == 0 and "degraded" in out and "restored" in out and "PSNR" in out
    faces = open_faces(faces_folder)
    expected = Evaluator(FacePairs(faces, 32, "small", 3), choose_metrics(["psnr", "ssim"])).evaluate(
        load_generator(release)
    )
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for state in ("degraded", "restored", "difference"):
        assert summary[state]["psnr"]["mean"] == pytest.approx(getattr(expected, state)["psnr"].mean, abs=0.01)
    assert summary["protocol"]["images_fingerprint"] == expected.protocol.images_fingerprint
    assert summary["protocol"]["background"] == [255, 255, 255]
    assert summary["protocol"]["model_sha256"] == hashlib.sha256(release.read_bytes()).hexdigest()
    table = list(csv.DictReader((tmp_path / "out" / "per_image.csv").read_text().splitlines()))
    assert [row["name"] for row in table] == faces.names
    mean = np.mean([float(row["restored_ssim"]) for row in table])
    assert mean == pytest.approx(summary["restored"]["ssim"]["mean"], abs=1e-12)
    with Image.open(tmp_path / "out" / "best_worst.png") as picture:
        assert picture.width > 6 * 128


def test_stored_pairs_give_the_degraded_row_of_the_preset(
    run: Run, options: list[object], faces_folder: Path, tmp_path: Path
) -> None:
    for batch in FacePairs(open_faces(faces_folder), 32, "released"):
        for name, degraded, target in zip(*batch, strict=True):
            write_png(tmp_path / "degraded" / name, degraded.permute(1, 2, 0).numpy())
            write_png(tmp_path / "target" / name, target.permute(1, 2, 0).numpy())
    folders = "--degraded-folder", tmp_path / "degraded", "--target-folder", tmp_path / "target"
    assert run(main, *options, *folders)[0] == 0
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert run(main, *options, "--overwrite", "--faces", faces_folder)[0] == 0
    directly = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored["degraded"] == directly["degraded"] and stored["restored"] == directly["restored"]
    assert stored["protocol"]["seed"] is None and directly["protocol"]["seed"] == 0


def test_a_network_is_scored_under_every_convention_and_against_other_faces_with_a_warning_of_reduced_targets(
    run: Run, options: list[object], faces_folder: Path, tmp_path: Path
) -> None:
    for index in range(3):
        write_png(tmp_path / "other" / f"{index}.png", np.full((40, 40, 3), 80 * index, dtype=np.uint8))
    given = ["--faces", faces_folder, "--degradation", "small", "--crop_border", 2, "--metrics", "psnr", "fd_lite0"]
    code, out, _ = run(main, *options, *given, "--reference", tmp_path / "other")
    size = open_faces(faces_folder).read(0).size
    assert code == 0 and "BasicSR with" in out and "torchmetrics" in out
    assert (f"targets of {size[0]} x {size[1]} pixels are reduced to 32" in " ".join(out.split())) == (size[0] > 32)
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [len(summary["conventions"]), "faces of" in summary["protocol"]["metrics"]["fd_lite0"]] == [4, True]
    assert summary["conventions"][0]["psnr"]["mean"] != summary["restored"]["psnr"]["mean"]  # without the border
    assert run(main, *options, *given, "--overwrite")[0] == 0
    beside_targets = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert beside_targets["degraded"]["psnr"] == summary["degraded"]["psnr"]
    assert beside_targets["degraded"]["fd_lite0"]["mean"] < summary["degraded"]["fd_lite0"]["mean"]


@pytest.mark.parametrize(
    "case",
    [
        "used output",
        "output among the faces",
        "no preset",
        "unequal names",
        "unknown metric",
        "no faces",
        "no number",
        "no color",
    ],
)
def test_wrong_options_end_with_one_line_and_exit_code_two(
    run: Run, options: list[object], faces_folder: Path, tmp_path: Path, case: str
) -> None:
    cases: dict[str, list[object]] = {
        "used output": ["--faces", faces_folder, "--output", faces_folder],
        "output among the faces": ["--faces", faces_folder, "--output", faces_folder / "out", "--overwrite"],
        "no preset": ["--faces", faces_folder, "--degradation", "none-such"],
        "unequal names": ["--degraded-folder", faces_folder / "more", "--target-folder", faces_folder],
        "unknown metric": ["--faces", faces_folder, "--metrics", "beauty"],
        "no faces": [],
        "no number": ["--faces", faces_folder, "--max-faces", 0],
        "no color": ["--faces", faces_folder, "--background-color", "see-through"],
    }
    code, out, err = run(main, *options, *cases[case])
    assert code == 2 and out == "" and "Traceback" not in err
    assert sum("error: " in line for line in err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
