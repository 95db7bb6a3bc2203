import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from data.faces.files import Pictures
from evaluation.metrics.image_metrics import psnr
from studies import measurement
from studies.measurement import Measurer
from studies.request import MeasurementSettings


@pytest.fixture
def settings() -> MeasurementSettings:
    return MeasurementSettings(("small", "released"), seed=3, metrics=("psnr", "ssim"))


def test_results_are_made_once_and_again_only_where_something_differs(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    folders = Measurer(faces_folder, settings).measure(release, tmp_path / "out")
    assert folders == {name: tmp_path / "out" / name for name in ("small", "released")}
    assert json.loads((folders["small"] / "metrics.json").read_text())["protocol"]["seed"] == 3
    assert len(evaluated) == 2
    Measurer(faces_folder, settings).measure(release, tmp_path / "out")
    assert len(evaluated) == 2
    for number, changes in enumerate(({"seed": 4}, {"metrics": ("psnr",)}, {"max_faces": 2}), start=3):
        changed = MeasurementSettings(**vars(settings) | {"degradations": ("small",)} | changes)
        Measurer(faces_folder, changed).measure(release, tmp_path / "out")
        assert len(evaluated) == number
    another = tmp_path / "another.safetensors"
    another.write_bytes(release.read_bytes())
    Measurer(faces_folder, replace(settings, degradations=("released",))).measure(another, tmp_path / "out")
    assert len(evaluated) == 5  # the same content under another name


def test_transparent_faces_are_measured_over_the_color_of_the_settings(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    for path in faces_folder.rglob("*.png"):
        with Image.open(path) as face:
            face.putalpha(128)
            face.save(path)
    stored = shutil.copytree(faces_folder, tmp_path / "stored")
    found = []
    for color in ("black", "white", "white"):
        chosen = replace(settings, degradations=("small", str(stored)), pictures=Pictures(color))
        folders = Measurer(faces_folder, chosen).measure(release, tmp_path / "out").values()
        found.append([json.loads((folder / "metrics.json").read_text())["protocol"] for folder in folders])
    assert len(evaluated) == 4  # twice, as the third settings are those of the second
    for black, white in zip(*found[:2], strict=True):
        assert white["background"] == [255, 255, 255] and black["images_fingerprint"] != white["images_fingerprint"]


def test_results_with_the_check_columns_of_earlier_versions_are_complete(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    folders = Measurer(faces_folder, settings).measure(release, tmp_path / "out")
    for folder in folders.values():
        summary = json.loads((folder / "metrics.json").read_text())
        summary["restored"]["psnr_torchmetrics"] = summary["restored"]["psnr"]
        (folder / "metrics.json").write_text(json.dumps(summary))
    Measurer(faces_folder, settings).measure(release, tmp_path / "out")
    assert len(evaluated) == 2


def test_an_evaluation_that_was_cut_short_is_repeated(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    measurer = Measurer(faces_folder, replace(settings, degradations=("small",)))
    folder = measurer.measure(release, tmp_path / "out")["small"]
    whole = (folder / "per_image.csv").read_text()
    for damage in ("no end", "half a table", "half a summary"):
        if damage == "no end":
            (folder / "metrics.json").unlink()
        elif damage == "half a table":
            (folder / "per_image.csv").write_text(whole[: len(whole) // 2])
        else:
            (folder / "metrics.json").write_text((folder / "metrics.json").read_text()[:100])
        before = len(evaluated)
        measurer.measure(release, tmp_path / "out")
        assert len(evaluated) == before + 1, damage
        assert (folder / "per_image.csv").read_text() == whole


def test_an_own_preset_is_compared_by_its_values(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    preset = tmp_path / "mine.yaml"
    for noise in (5.0, 6.0):
        preset.write_text(f"first:\n  noise_sigma_range: [0.0, {noise}]\n")
        measurer = Measurer(faces_folder, replace(settings, degradations=(str(preset),)))
        folders = measurer.measure(release, tmp_path / "out")
    values = json.loads((folders["mine"] / "metrics.json").read_text())["protocol"]["degradation_values"]
    assert values["first"]["noise_sigma_range"] == [0.0, 6.0] and len(evaluated) == 2
    with pytest.raises(ValueError, match="different names"):
        replace(settings, degradations=(str(preset), "other/mine.yaml")).preset_names()


def test_stored_degraded_faces_are_a_degradation_like_any_other(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    stored = tmp_path / "phone"
    for path in faces_folder.rglob("*.png"):
        target = stored / path.relative_to(faces_folder).with_name(f"{path.stem}x2.jpg")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as face:
            face.convert("RGB").reduce(2).save(target)
    chosen = replace(settings, degradations=("small", str(stored)), names=("{}x2",))
    for _ in range(2):
        folders = Measurer(faces_folder, chosen).measure(release, tmp_path / "out")
    assert list(folders) == ["small", "phone"] and len(evaluated) == 2
    protocol = json.loads((folders["phone"] / "metrics.json").read_text())["protocol"]
    assert protocol["degradation"] == f"stored images in {stored}" and protocol["seed"] is None
    (next(stored.rglob("*.jpg"))).write_bytes((next(stored.rglob("*.jpg"))).read_bytes() + b" ")
    Measurer(faces_folder, chosen).measure(release, tmp_path / "out")
    assert len(evaluated) == 3  # other files


def test_a_failed_evaluation_is_told_in_its_own_words(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(release.read_bytes()[:500])
    measurer = Measurer(faces_folder, settings)
    with pytest.raises(ValueError, match=r"^broken.safetensors cannot be measured under small: .*broken.safetensors"):
        measurer.measure(broken, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        measurer.measure(tmp_path / "none.ckpt", tmp_path / "out")
    shutil.rmtree(faces_folder)
    with pytest.raises(FileNotFoundError, match="existing folder"):
        Measurer(faces_folder, settings)


def test_faces_and_metrics_are_loaded_once_for_all_networks_of_a_study(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, measured = [], []
    choose = measurement.choose_metrics
    monkeypatch.setattr(measurement, "choose_metrics", lambda *given: chosen.append(given) or choose(*given))
    monkeypatch.setattr(
        "evaluation.metrics.image_metrics.psnr",
        lambda image, target: measured.append(len(image)) or psnr(image, target),
    )
    measurer = Measurer(faces_folder, settings)
    for number in range(3):
        checkpoint = tmp_path / f"{number}.safetensors"
        checkpoint.write_bytes(release.read_bytes())
        measurer.measure(checkpoint, tmp_path / f"out{number}")
    assert len(chosen) == 1
    assert sum(measured) == 2 * (5 + 3 * 5)  # under two degradations the degraded faces once, the restored ones thrice
    results = [(tmp_path / f"out{number}" / "small" / "metrics.json").read_text() for number in range(3)]
    alone = Measurer(faces_folder, settings).measure(checkpoint, tmp_path / "alone")["small"]
    assert results[2] == (alone / "metrics.json").read_text()
    assert results[0].replace("0.safetensors", "2.safetensors") == results[2]


def test_sigterm_ends_a_measurement_in_order(
    settings: MeasurementSettings, faces_folder: Path, release: Path, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    measurer = Measurer(faces_folder, settings, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        measurer.measure(release, tmp_path / "out")
    assert ended.value.code == 143 and not list(tmp_path.glob("out/**/*"))
    assert signal.getsignal(signal.SIGTERM) == before
    assert Measurer(faces_folder, settings).measure(release, tmp_path / "out")["small"].is_dir()
