import hashlib
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from data.dataset import FaceImages
from data.faces.files import FaceFiles, open_faces
from evaluation.metrics import perceptual
from evaluation.metrics.choice import choose_metrics
from evaluation.metrics.perceptual import load_inception
from evaluation.pairs import FacePairs
from evaluation.protocol import Evaluator
from evaluation.reports.tables import summary_rows


def test_metrics_that_cannot_be_had_are_listed_with_their_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("GPEN_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setitem(sys.modules, "dlib", None)
    metrics = choose_metrics(["ssim", "lpips", "fid", "identity"])
    assert [metric.name for metric in metrics.per_face] == ["psnr", "ssim"]
    assert not metrics.per_set
    assert set(metrics.unavailable) == {"lpips", "fid", "identity"}
    assert "https://" in metrics.unavailable["lpips"] and str(tmp_path) in metrics.unavailable["lpips"]
    assert "torch-fidelity" in metrics.unavailable["fid"] or "https://" in metrics.unavailable["fid"]
    assert "pip install dlib-bin" in metrics.unavailable["identity"]


def test_metrics_of_pyiqa_run_where_it_is_installed_with_or_without_the_target(
    monkeypatch: pytest.MonkeyPatch, drawn_faces: FaceFiles
) -> None:
    def create_metric(name: str, device: torch.device) -> nn.Module:
        module = nn.Module()
        module.metric_mode, module.lower_better = ("FR", True) if name == "far" else ("NR", False)
        module.forward = lambda image, target=None: (  # type: ignore[method-assign]
            image.amax((1, 2, 3)) if target is None else (image - target).abs().mean((1, 2, 3))[:, None]
        )
        return module

    fake = ModuleType("pyiqa")
    fake.__spec__ = ModuleSpec("pyiqa", None)
    contents = {"create_metric": create_metric, "list_models": lambda: ["far", "bright"], "__version__": "9"}
    for name, value in contents.items():
        monkeypatch.setattr(fake, name, value, raising=False)
    assert "pyiqa is not installed" in choose_metrics(["pyiqa:far"]).unavailable["pyiqa:far"]
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    with pytest.raises(ValueError, match="pyiqa:none must be a metric of pyiqa"):
        choose_metrics(["pyiqa:none"])
    metrics = choose_metrics(["pyiqa:bright", "pyiqa:far"])
    dark, light = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.full((2, 3, 32, 32), 51, dtype=torch.uint8)
    found = {metric.name: metric.measure(light, dark).tolist() for metric in metrics.per_face if metric.name != "psnr"}
    assert found == {"pyiqa:bright": [pytest.approx(0.2)] * 2, "pyiqa:far": [pytest.approx(0.2)] * 2}
    assert metrics.definitions()["pyiqa:far"] == "far of pyiqa 9, beside the target, per image; lower is better"
    evaluation = Evaluator(FacePairs(drawn_faces, 32, "small"), metrics).evaluate(lambda x: x)
    header, rows = summary_rows(evaluation)
    assert [row[0] for row in rows] == ["PSNR dB ↑", "pyiqa:bright", "pyiqa:far"] and len(header) == 4


def test_weights_that_were_named_and_are_missing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="weights must be an existing file"):
        choose_metrics(["lpips"], lpips_weights=tmp_path / "none.pth")


def test_inception_weights_with_another_checksum_or_with_code_inside_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch_fidelity")
    file = tmp_path / "weights.pth"
    torch.save({"module": nn.Linear(1, 1)}, file)
    with pytest.raises(ValueError, match="its SHA-256 begins with"):
        load_inception(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(perceptual, "INCEPTION_WEIGHTS", replace(perceptual.INCEPTION_WEIGHTS, sha256=digest))
    with pytest.raises(ValueError, match="state dict"):
        load_inception(file)


@pytest.mark.parametrize(
    ("name", "blurred_at_most", "strangers_at_least"), [("identity", 0.45, 0.65), ("identity_mobilenet", 0.45, 0.8)]
)
def test_identity_is_zero_for_the_same_face_small_for_a_blurred_one_and_large_for_strangers(
    photographs: Path, name: str, blurred_at_most: float, strangers_at_least: float
) -> None:
    if name == "identity":
        pytest.importorskip("dlib")
    faces = FaceImages(open_faces(photographs), 64)
    images = torch.stack([faces[index] for index in range(5)])
    distance = {metric.name: metric for metric in choose_metrics([name]).per_face}[name].measure
    blurred = nn.functional.avg_pool2d(images.float(), 3, 1, padding=1, count_include_pad=False).byte()
    assert distance(images, images).abs().max() < 1e-6
    assert distance(blurred, images).mean() < blurred_at_most
    assert distance(images.roll(1, 0), images).mean() > strangers_at_least
