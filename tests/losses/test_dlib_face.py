from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.identity import FaceEmbedding
from inference.drawing import sample
from losses.dlib_face import DlibIdentityLoss, chips
from losses.dlib_landmarks import face_place, five_landmarks, large_pixels, locate_faces
from losses.identity import SHIPPED
from models import load_prior


@pytest.fixture(scope="module")
def loss() -> DlibIdentityLoss:
    if find_spec("face_recognition_models") is None:
        pytest.skip("the package face_recognition_models is not installed")
    return DlibIdentityLoss()


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """[8, 3, 64, 64] in [-1, 1], drawn by the shipped prior."""
    return sample(load_prior(SHIPPED.with_name("prior_64.safetensors")), 0, range(8), truncation=0.7)


def test_every_drawn_face_is_known_again_when_it_is_mirrored_blurred_or_noisy(
    loss: DlibIdentityLoss, faces: Tensor
) -> None:
    noise = torch.randn(faces.shape, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(functional.pad(faces, (1, 1, 1, 1), "replicate"), 3, 1)
    known = loss.embed(faces, locate_faces(faces))
    for changed in (faces.flip(3), blurred, faces + 0.1 * noise):
        embedded = loss.embed(changed, locate_faces(changed))
        assert torch.cdist(embedded, known).argmin(1).tolist() == list(range(8))


def test_faces_are_cut_where_dlib_cuts_them(loss: DlibIdentityLoss, faces: Tensor) -> None:
    pixels = model_to_uint8(faces)
    ours = chips(uint8_to_model(pixels), torch.stack([face_place(face) for face in pixels]))
    large = large_pixels(pixels)
    theirs = uint8_to_model(
        torch.from_numpy(np.stack([five_landmarks().chip(face, face) for face in large])).permute(0, 3, 1, 2)
    )
    inside = (..., slice(8, -8), slice(8, -8))  # beyond the picture both see black, at other edges of a pixel
    assert (ours - theirs)[inside].abs().mean() < 0.03
    moved = (ours[..., 2:] - theirs[..., :-2])[inside].abs().mean()
    assert moved > 2 * (ours - theirs)[inside].abs().mean()


def test_it_is_the_distance_of_the_metric_identity(loss: DlibIdentityLoss, faces: Tensor) -> None:
    target = model_to_uint8(faces)
    image = model_to_uint8(functional.avg_pool2d(functional.pad(faces, (2, 2, 2, 2), "replicate"), 5, 1))
    expected = FaceEmbedding().distance(image, target)
    places = torch.stack([face_place(face) for face in target])
    ours = [
        loss(uint8_to_model(image[i : i + 1]), uint8_to_model(target[i : i + 1]), places[i : i + 1]).sqrt().item()
        for i in range(len(image))
    ]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), expected, rtol=0, atol=0.06)
    assert abs(sum(ours) / len(ours) - expected.mean().item()) < 0.02


def test_it_is_the_mean_squared_distance_whose_gradient_agrees_with_finite_differences(loss: DlibIdentityLoss) -> None:
    torch.manual_seed(1)
    restored, target = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    places = locate_faces(target)
    assert loss(target, target, places).item() == 0
    expected = (loss.embed(restored, places) - loss.embed(target, places)).square().sum(1).mean()
    torch.testing.assert_close(loss(restored, target, places), expected)
    double, (one, other) = DlibIdentityLoss().double(), (restored[:1].double(), target[:1].double())
    judge = lambda x: double(x, other, places[:1].double())  # noqa: E731
    assert torch.autograd.gradcheck(judge, (one.requires_grad_(),), fast_mode=True)


def test_under_autocast_the_distance_stays_in_float32(loss: DlibIdentityLoss) -> None:
    torch.manual_seed(2)
    restored, target = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    places = locate_faces(target)
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss(restored, target, places)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, loss(restored, target, places), rtol=0.1, atol=0)


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losses.weights.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="face_recognition_models is not installed; pip install"):
        DlibIdentityLoss()
