import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import FaceImages
from data.faces.files import open_faces
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.identity_guard import KEPT_UP_TO
from inference.folders import without_pairs
from models import load_generator
from scripts.restore_faces import main

Run = Callable[..., tuple[int, str, str]]


def test_the_written_faces_are_what_the_network_makes_of_the_inputs(
    run: Run, release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in faces_folder.rglob("*.png")}
    code, out, _ = run(
        main, "--checkpoint", release, "--input", faces_folder, "--output", tmp_path / "out", "--device", "cpu"
    )
    assert code == 0 and "5 faces restored at 32x32 pixels" in out
    inputs, written = open_faces(faces_folder), open_faces(tmp_path / "out")
    assert written.names == inputs.names
    images = FaceImages(inputs, 32)
    with torch.no_grad():
        expected = load_generator(release)(uint8_to_model(torch.stack([images[index] for index in range(5)])))
    for index in range(5):
        pixels = np.asarray(written.read(index)).astype(int)
        assert np.abs(pixels - model_to_uint8(expected[index]).permute(1, 2, 0).numpy()).max() <= 1
    assert {file: file.read_bytes() for file in faces_folder.rglob("*.png")} == before


def test_what_is_done_to_pictures_of_other_sizes_is_said_and_given_faces_lie_beside_restored_ones(
    run: Run, release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    uneven = Image.new("RGB", (512, 300), (0, 255, 0))
    uneven.save(faces_folder / "uneven.png")
    words = ["--input", faces_folder, "--output", tmp_path / "out", "--device", "cpu", "--side-by-side", "--crop"]
    code, out, err = run(main, "--checkpoint", release, *words)
    assert code == 0 and "6 faces restored at 32x32 pixels into" in out
    assert "1 of 6 pictures is not square: only the central square was kept (512x300 was cut to 300x300)" in err
    assert "larger than the model's images: made smaller" in err
    with Image.open(tmp_path / "out" / "side_by_side" / "uneven.png") as picture:
        assert picture.width > 2 * 128 and picture.getpixel((64, 90)) == (0, 255, 0)  # what was given is at the left
    Image.new("RGBA", (512, 300), (9, 9, 9, 0)).save(faces_folder / "uneven.png")
    words += ["--background_color", "#00f", "--overwrite"]
    assert run(main, "--checkpoint", release, *words)[0] == 2
    assert run(main, "--checkpoint", release, *words, "--background_color", "#0000ff")[0] == 0
    with Image.open(tmp_path / "out" / "side_by_side" / "uneven.png") as picture:
        assert picture.getpixel((64, 90)) == (0, 0, 255)
    written = open_faces(tmp_path / "out")
    assert len(written) == 12 and without_pairs(written).names == open_faces(faces_folder).names  # what is scored


def test_photographs_are_left_out_with_the_command_that_takes_them(
    run: Run, release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (400, 300)).save(faces_folder / "beach.jpg")
    Image.new("RGB", (100, 92)).save(faces_folder / "nearly.png")  # as crops of detectors are
    words = ["--checkpoint", release, "--input", faces_folder, "--output", tmp_path / "out", "--device", "cpu"]
    code, out, err = run(main, *words)
    assert code == 1 and "6 faces restored" in out and "100x92 was cut to 92x92" in err
    said = "not restored: beach.jpg: it is 400x300 pixels and not square as aligned faces are; scripts.restore_photos"
    assert said in err and not (tmp_path / "out" / "beach.png").exists()


def test_one_corrupt_file_is_named_at_the_end_with_exit_code_one(
    run: Run, release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    (faces_folder / "2.png").write_bytes(b"broken")
    code, out, err = run(
        main, "--checkpoint", release, "--input", faces_folder, "--output", tmp_path / "out", "--device", "cpu"
    )
    assert code == 1 and "4 faces restored" in out
    assert err.strip().splitlines()[-1].startswith("not restored: ") and "2.png" in err
    assert len(open_faces(tmp_path / "out")) == 4


def test_the_guard_lists_every_face_and_never_takes_a_restoration_that_it_calls_another_person(
    run: Run, release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("dlib")
    options = ["--checkpoint", release, "--input", faces_folder, "--device", "cpu", "--identity_guard", "blend"]
    code, out, _ = run(main, *options, "--output", tmp_path / "out")
    assert code == 0 and "Identity of the given faces: kept" in out
    rows = list(csv.DictReader((tmp_path / "out" / "identity.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == open_faces(faces_folder).names
    for row in rows:
        assert float(row["strength"]) == 0 or float(row["written_distance"]) <= KEPT_UP_TO
        assert (row["verdict"] == "kept") == (float(row["strength"]) == 1)


@pytest.mark.parametrize("case", ["no checkpoint", "no folder", "inside input", "used output", "no device", "batch 0"])
def test_wrong_options_end_with_one_line_and_exit_code_two(
    run: Run, release: Path, faces_folder: Path, tmp_path: Path, case: str
) -> None:
    options = {"--checkpoint": release, "--input": faces_folder, "--output": tmp_path / "out", "--device": "cpu"}
    wrong: dict[str, dict[str, object]] = {
        "no checkpoint": {"--checkpoint": tmp_path / "none.safetensors"},
        "no folder": {"--input": tmp_path / "none"},
        "inside input": {"--output": faces_folder / "out"},
        "used output": {"--output": release.parent},
        "no device": {"--device": "warp:0"},
        "batch 0": {"--batch-size": 0},
    }
    arguments = [word for pair in (options | wrong[case]).items() for word in pair]
    code, out, err = run(main, *arguments)
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2 and out.strip() == ""
    assert lines[-1].startswith("error: ") and len([line for line in lines if line.startswith("error")]) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
