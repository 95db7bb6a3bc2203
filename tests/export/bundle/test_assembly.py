"""The command and what it leaves behind."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from math import isnan
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data.faces.files import fingerprint, open_faces
from data.ranges import uint8_to_model
from evaluation.pairs import FacePairs
from export.__main__ import main
from export.bundle import assembly as bundle_module
from export.bundle.assembly import export_bundle
from export.bundle.contents import ExportReport
from export.bundle.faces import training_record
from export.formats.artefacts import (
    LARGEST_DIFFERENCE,
    ImageDifference,
    check_difference,
    image_difference,
    restore_images,
)
from export.formats.options import ExportSettings, ParityFaces
from inference.restorers import load_restorer
from models import GPEN, NoiseMode, load_generator, save_release
from system import command_line

ARTEFACTS = ("generator.safetensors", "generator.torchscript.pt", "generator.onnx", "generator_opset11.onnx")
TEXTS = {"README.md", "report.json", "report.html", "SHA256SUMS", "layer_map.json", "absolute_paths.py"}


def run_command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    return int(caught.value.code or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_command_writes_a_complete_bundle(
    checkpoint: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "bundle"
    arguments = ["--checkpoint", str(checkpoint), "--output", str(output), "--faces", str(faces), "--opset", "13"]
    arguments += ["--precision", "float32"]
    assert run_command([*arguments, "--degradation", "released", "--seed", "3"], monkeypatch) == 0
    report = json.loads((output / "report.json").read_text())
    assert {path.name for path in output.iterdir()} == {*ARTEFACTS, *TEXTS, "golden", "vacc"}
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]
    differences = report["differences"]
    assert differences["generator.safetensors"] == {"largest": 0, "mean": 0}
    for name in ARTEFACTS[1:]:
        assert 0 < differences[name]["mean"] < differences[name]["largest"] < 2e-5
    assert report["images"] == {"kind": "degraded faces", "number": 3, "degradation": "released", "seed": 3}
    assert (report["opset"], report["resolution"], report["card"]) == (13, 64, {"data": "none"})
    assert report["parameters"] == sum(p.numel() for p in load_generator(checkpoint).parameters())
    assert report["architecture"]["noise_mode"] == "concat"
    for name in ARTEFACTS:
        assert report["sha256"][name] == hashlib.sha256((output / name).read_bytes()).hexdigest()
    printed = capsys.readouterr().out
    assert f"{report['parameters']:,}" in printed
    assert "3 degraded faces (preset released, seed 3)" in printed


def test_reported_differences_are_those_a_fresh_comparison_gives(
    checkpoint: Path, faces: Path, generators: dict[NoiseMode, GPEN], tmp_path: Path
) -> None:
    settings = ParityFaces(faces, "released", 1, 2)
    report = export_bundle(checkpoint, tmp_path / "bundle", settings)
    # The last faces are for measuring, the first ones for calibration.
    last = open_faces(faces).take(slice(-2, None))
    images = torch.cat([uint8_to_model(pair.degraded) for pair in FacePairs(last, 64, "released", 1)])
    networks = load_restorer(tmp_path / "bundle" / "generator.onnx"), generators["concat"]
    fresh = image_difference(*(restore_images(network, images, "restoring") for network in networks))
    assert fresh == report.differences["generator.onnx"]


def test_weights_of_the_checkpoint_are_what_every_artefact_restores_with(
    checkpoint: Path, generators: dict[NoiseMode, GPEN], images: torch.Tensor, tmp_path: Path
) -> None:
    changed = load_generator(checkpoint)
    with torch.no_grad():
        changed.decoder.synthesis.blocks[0].to_rgb.bias.add_(0.25)
        expected = changed(images)
        assert not torch.allclose(expected, generators["concat"](images), atol=0.1)
    save_release(tmp_path / "changed.safetensors", changed, numbers="float32")
    export_bundle(tmp_path / "changed.safetensors", tmp_path / "bundle")
    for name in ARTEFACTS:
        torch.testing.assert_close(load_restorer(tmp_path / "bundle" / name)(images), expected, rtol=0, atol=2e-5)


def test_without_faces_the_report_says_that_images_were_drawn(checkpoint: Path, tmp_path: Path) -> None:
    report = export_bundle(checkpoint, tmp_path / "bundle", ParityFaces(images=1, seed=4))
    used = json.loads((tmp_path / "bundle" / "report.json").read_text())["images"]
    assert used == {"kind": "smooth synthetic images", "number": 1, "degradation": None, "seed": 4}
    assert isinstance(report, ExportReport)


def test_python_in_the_readme_of_a_bundle_runs(
    checkpoint: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bundle"
    export_bundle(checkpoint, output, ParityFaces(images=1))
    (faces / "0.png").rename(output / "face.png")
    monkeypatch.chdir(output)
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (output / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    with pytest.warns((DeprecationWarning, FutureWarning), match="deprecated"):
        for block in blocks:
            exec(block, namespace)
    read_face = namespace["read_face"]
    assert callable(read_face)
    onnx, script, ours = (read_face(f"restored_{name}.png") for name in ("onnx", "torchscript", "safetensors"))
    assert abs(onnx - ours).max() <= 2.1 / 255  # one step of 8 bits
    assert abs(script - ours).max() <= 2.1 / 255
    assert ours.std() > 0.05


def test_an_existing_folder_is_refused_and_replaced_only_when_asked(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="add --overwrite"):
        export_bundle(checkpoint, output)
    assert [path.name for path in output.iterdir()] == ["notes.txt"]
    half = ExportSettings(("float32", "fp16"), opset=11)
    export_bundle(checkpoint, output, ParityFaces(images=1), half, overwrite=True)
    assert (output / "vacc" / "fp16.yaml").is_file()
    export_bundle(checkpoint, output, ParityFaces(images=1), ExportSettings(("float32",), opset=14), overwrite=True)
    assert not (output / "vacc" / "fp16.yaml").exists()
    assert json.loads((output / "report.json").read_text())["opset"] == 14
    assert (output / "notes.txt").read_text() == "mine"


def test_an_artefact_that_differs_leaves_nothing_behind_and_an_old_bundle_as_it_was(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bundle"
    export_bundle(checkpoint, output, ParityFaces(images=1))
    before = contents(output)

    def write_wrong(path: Path, generator: GPEN, card: dict[str, str], numbers: str) -> None:
        with torch.no_grad():
            wrong = load_generator(checkpoint)
            wrong.encoder.from_rgb.bias.add_(0.5)
        assert numbers == "float32"
        save_release(path, wrong, numbers="float32")

    monkeypatch.setattr(bundle_module, "save_release", write_wrong)
    for target in (output, tmp_path / "new"):
        with pytest.raises(ValueError, match="differs from the network"):
            export_bundle(checkpoint, target, overwrite=True)
    assert contents(output) == before
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", checkpoint.name}


def test_differences_that_are_large_or_no_numbers_fail(images: torch.Tensor) -> None:
    check_difference("x", ImageDifference(LARGEST_DIFFERENCE, 0))
    for largest in (1.1 * LARGEST_DIFFERENCE, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="x differs"):
            check_difference("x", ImageDifference(largest, 0))

    broken_second = torch.cat([images[:1], images[1:] * float("nan")])
    assert all(isnan(image_difference(*pair).largest) for pair in ((images, broken_second), (broken_second, images)))
    shifted = image_difference(images + 0.5, images)
    assert (shifted.largest, shifted.mean) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.5, abs=1e-6))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"--checkpoint": "missing.ckpt"}, "there is no checkpoint at missing.ckpt"),
        ({"--faces": "missing"}, "missing"),
        ({"--opset": "42"}, "from 11 to 20, got 42"),
        ({"--degradation": "nonsense", "--faces": "faces"}, "nonsense"),
        ({"--images": "0"}, "at least 1, got 0"),
        ({"--output": "trained.safetensors"}, "must be a folder"),
        ({"--opset": "many"}, "--opset must be a whole number, got many"),
        ({"--precision": "int8"}, "int8 needs faces"),
        ({"--calibration": "faces", "--precision": "fp16"}, "serve int8 only"),
        ({"--calibration": "faces", "--faces": "faces"}, "64 x 64 pixels"),
        ({"--calibration": "empty", "--faces": "faces"}, "at least one face image"),
        ({"--calibration-faces": "0", "--faces": "faces"}, "at least 1, got 0"),
        ({"--largest-float-flops": "7", "--faces": "faces"}, "7"),
    ],
)
def test_wrong_options_end_in_one_line_and_exit_code_2(
    checkpoint: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    options = {"--checkpoint": checkpoint.name, "--output": "bundle"} | wrong
    assert run_command([word for option in options.items() for word in option], monkeypatch) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.popitem(), "does not fit the network"),
        (lambda state: next(iter(state.values())).fill_(float("nan")), "not finite"),
    ],
)
def test_missing_and_non_finite_tensors_of_a_checkpoint_are_named(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[dict[str, torch.Tensor]], object],
    message: str,
) -> None:
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
    state = load_file(checkpoint)
    damage(state)
    save_file(state, tmp_path / "broken.safetensors", metadata)
    arguments = ["--checkpoint", str(tmp_path / "broken.safetensors"), "--output", str(tmp_path / "bundle")]
    assert run_command(arguments, monkeypatch) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert message in line
    assert not (tmp_path / "bundle").exists()


def test_a_full_disk_leaves_the_folder_empty(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_module.artefacts, "write_onnx", full)
    with pytest.raises(OSError, match="No space left"):
        export_bundle(checkpoint, tmp_path / "new" / "bundle")
    assert list((tmp_path / "new").iterdir()) == []


def test_exporting_twice_gives_equal_bytes_that_everyone_may_read(
    checkpoint: Path, faces: Path, tmp_path: Path
) -> None:
    settings = ExportSettings(("float32", "fp16"))
    for name in ("one", "two"):
        export_bundle(checkpoint, tmp_path / name, ParityFaces(faces, images=2), settings)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    # PyTorch numbers the classes of all traces of one process; in two processes the trace is equal as well.
    trace_and_its_sums = {"generator.torchscript.pt", "SHA256SUMS", "report.json", "report.html"}
    assert {name for name in one if one[name] != two[name]} <= trace_and_its_sums
    (tmp_path / "new").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "new").stat().st_mode}


@pytest.mark.parametrize(("number", "is_training"), [(2, False), (0, True)])
def test_faces_that_training_held_out_are_the_ones_measured_on(
    checkpoint: Path, faces: Path, tmp_path: Path, number: int, is_training: bool
) -> None:
    files = open_faces(faces)
    held_out = files.take(slice(len(files) - number, None)) if number else files.take(slice(1))
    data = {
        "fingerprint": fingerprint(files.take(slice(len(files) - number))),
        "validation_fingerprint": fingerprint(held_out),
        "num_validation_faces": str(len(held_out)),
    }
    run = tmp_path / "run" / "checkpoints"
    run.mkdir(parents=True)
    (run / "trained.safetensors").write_bytes(checkpoint.read_bytes())
    (run.parent / "run.json").write_text(
        json.dumps({"data": data, "sessions": [{"num_processes": 1, "num_threads": 1, "precision": "32-true"}]})
    )
    report = export_bundle(run / "trained.safetensors", tmp_path / "bundle", ParityFaces(faces, images=3))
    assert training_record(run.parent) == training_record(run / "trained.safetensors") == data  # a folder or its file
    page = (tmp_path / "bundle" / "report.html").read_text()
    if is_training:
        assert report.num_evaluation == 3
        assert report.evaluated_on == "the network was trained on the faces that it is measured on"
        assert any("flatter" in warning for warning in report.warnings) and "flatter" in page
    else:
        assert (report.num_evaluation, report.evaluated_on) == (2, "training held these faces out")
        assert any("2 faces that training held out" in warning for warning in report.warnings)
        listed = (tmp_path / "bundle" / "golden" / "datalist.txt").read_text().splitlines()
        assert [Path(line).stem for line in listed] == [Path(name).stem for name in files.names[-2:]]
    assert report.evaluated_on in page
    (harm,) = (warning for warning in report.warnings if "worse than the degraded ones" in warning)  # random weights
    assert re.search(r"[0-9.]+ dB PSNR below these; train longer", harm) and harm in page
