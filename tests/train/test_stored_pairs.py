"""A run on stored pairs: what it trains on, validates on, pictures, records and refuses."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import FaceBatch
from data.faces.files import open_faces
from data.ranges import uint8_to_model
from evaluation.metrics.choice import choose_metrics
from evaluation.pairs import FacePairs
from evaluation.protocol import Evaluator
from models import Architecture
from train.run.data_module import open_photographs
from train.run.settings import FaceSettings
from train.stages.restoration import RestorationTraining

Train = Callable[..., None]
MakeBatch = Callable[[Sequence[int]], FaceBatch]


@pytest.fixture(scope="module")
def degraded(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each face at a quarter of its size under a name of its own, and two without a face."""
    folder = tmp_path_factory.mktemp("degraded")
    for path in [*faces.iterdir(), faces / "00.png"]:
        Image.open(path).resize((10, 10), Image.Resampling.BOX).save(folder / f"{path.stem}x4.jpg", quality=95)
    Image.new("RGB", (8, 8)).save(folder / "morex4.png")
    return folder


def test_stored_versions_stay_what_they_are_beside_faces_that_are_degraded(
    tiny: Architecture, make_batch: MakeBatch
) -> None:
    module = RestorationTraining(tiny, degradation="small")
    plain = make_batch([5, 6, 7])
    stored = make_batch([50, 51])
    mixed = plain._replace(degraded=stored.target, has_degraded=(True, False, True))
    pair, synthetic = module.degrade(mixed), module.degrade(plain.part(1, 1))
    assert torch.equal(pair.degraded[[0, 2]], uint8_to_model(stored.target))
    assert torch.equal(pair.degraded[1], synthetic.degraded[0])
    assert torch.equal(pair.target, uint8_to_model(plain.target))


def test_a_run_learns_from_pairs_validates_on_held_out_ones_and_pictures_real_faces(
    train: Train, faces: Path, degraded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    seen: list[FaceBatch] = []
    step = RestorationTraining.training_step

    def recording(self: RestorationTraining, batch: FaceBatch, index: int) -> None:
        seen.append(batch)
        step(self, batch, index)

    monkeypatch.setattr(RestorationTraining, "training_step", recording)
    pairs = ["--data.degraded", degraded, "--data.names", "['{}x4']", "--data.real_faces", degraded]
    train("restoration", tmp_path / "run", *pairs, "--run.total_images", 8, "--data.synthetic_share", 0.3)
    assert f"20 to train on, 2 held out, with degraded versions from {degraded} for 70% of the images" in (
        capsys.readouterr().out
    )
    assert [batch.image_indices for batch in seen] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert 0 < sum(sum(batch.has_degraded) for batch in seen) < 8

    held_out = FacePairs(open_faces(faces).take(slice(20, None)), 32, open_faces(degraded), names=("{}x4",))
    with pytest.raises(ValueError, match="without target"):  # an evaluation passes nothing over
        list(held_out)
    photographs = open_photographs(FaceSettings(faces, degraded=degraded, names=("{}x4",)))
    assert photographs.validation_degraded is not None
    assert photographs.validation_degraded.names == ["20x4.jpg", "21x4.jpg"]
    pairs_of_two = FacePairs(photographs.validation_faces, 32, photographs.validation_degraded, names=("{}x4",))
    expected = Evaluator(pairs_of_two, choose_metrics(["psnr"])).evaluate(lambda x: x).degraded["psnr"].mean
    with (tmp_path / "run" / "validation.csv").open() as file:
        assert float(next(csv.DictReader(file))["degraded/psnr"]) == pytest.approx(expected, abs=1e-3)
    picture = np.asarray(Image.open(sorted((tmp_path / "run" / "pictures").glob("real_*.png"))[0]))
    assert picture.shape[1] > 2 * 128 and len(picture) > 8 * 128  # eight faces in two states
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["data"]["degraded_contents"]) == 64


def test_a_run_is_not_continued_on_other_pairs(train: Train, degraded: Path, tmp_path: Path) -> None:
    pairs = ["--data.degraded", degraded, "--data.names", "['{}x4']"]
    train("restoration", tmp_path / "run", *pairs, "--run.total_images", 4)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in degraded.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    pairs[1] = moved
    train("restoration", tmp_path / "run", *pairs, "--run.total_images", 8)
    Image.new("RGB", (10, 10)).save(moved / "03x4.jpg")
    with pytest.raises(ValueError, match="degraded versions of the faces to train on: 20 as before, but others"):
        train("restoration", tmp_path / "run", *pairs, "--run.total_images", 12)
    with pytest.raises(ValueError, match=re.escape("data.names was ['{}x4'], now []")):
        train("restoration", tmp_path / "run", "--run.total_images", 12)


def test_settings_that_do_not_fit_together_are_named(train: Train, faces: Path, degraded: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="synthetic_share needs degraded versions to mix with"):
        FaceSettings(faces, synthetic_share=0.5)
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5"):
        FaceSettings(faces, degraded=degraded, synthetic_share=1.5)
    with pytest.raises(ValueError, match="validation_degraded are versions of validation_faces"):
        FaceSettings(faces, validation_degraded=degraded)
    with pytest.raises(ValueError, match="belong to stage 2: a prior learns from faces alone"):
        train("prior", tmp_path / "run", "--data.degraded", degraded, "--data.names", "['{}x4']")
    with pytest.raises(ValueError, match=r"without degraded image 00, 01, 02 … \(22\).*looks like '\{\}x4'"):
        train("restoration", tmp_path / "run", "--data.degraded", degraded)
