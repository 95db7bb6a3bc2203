from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.metrics.identity import FaceEmbedding, LandmarkDistance
from losses.dlib_face import DlibFace
from losses.dlib_landmarks import FaceLandmarks, dlib_models, large_pixels

dlib = pytest.importorskip("dlib")


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """Two smooth pictures, uint8 [2, 3, 64, 64]."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, 7, 7, generator=generator)
    return (torch.nn.functional.interpolate(small, (64, 64), mode="bilinear") * 255).byte()


def test_the_network_gives_dlibs_own_numbers(faces: torch.Tensor) -> None:
    own = dlib.face_recognition_model_v1(str(dlib_models() / "dlib_face_recognition_resnet_model_v1.dat"))
    points = dlib.shape_predictor(str(dlib_models() / "shape_predictor_5_face_landmarks.dat"))
    expected = []
    for pixels in large_pixels(faces):
        image = np.frombuffer(pixels, np.uint8).reshape(256, 256, 3)
        expected.append(own.compute_face_descriptor(image, points(image, dlib.rectangle(64, 77, 192, 205))))
    embedding = FaceEmbedding()
    np.testing.assert_allclose(embedding.embed(faces), np.array(expected), rtol=0, atol=2e-6)
    one_by_one = np.concatenate([FaceEmbedding().embed(face[None]) for face in faces])
    np.testing.assert_allclose(embedding.embed(faces), one_by_one, rtol=0, atol=2e-6)


def test_another_file_is_no_recognition_model(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match="must be dlib's face recognition model, version 1"):
        DlibFace(tmp_path / "x.dat")


def test_landmarks_that_move_together_move_by_their_shift(faces: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    distance = LandmarkDistance()
    assert distance.distance(faces, faces).tolist() == [0, 0]
    assert (distance.distance(faces.flip(0), faces) > 0).all()
    shifts = iter([(0.0, 0.0), (3.0, 4.0), (0.0, 0.0), (0.0, 0.0)])
    monkeypatch.setattr(FaceLandmarks, "points", lambda *_: np.zeros((68, 2)) + next(shifts))
    assert distance.distance(faces, faces).tolist() == [0, 10]  # 5 of 256 pixels are 10 of 512
