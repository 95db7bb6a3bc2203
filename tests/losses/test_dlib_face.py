from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional

from inference.drawing import sample
from losses.dlib_face import DlibIdentityLoss
from losses.identity import SHIPPED
from models import load_prior


@pytest.fixture(scope="module")
def loss() -> DlibIdentityLoss:
    if find_spec("face_recognition_models") is None:
        pytest.skip("the package face_recognition_models is not installed")
    return DlibIdentityLoss()


def test_every_drawn_face_is_known_again_when_it_is_mirrored_blurred_or_noisy(loss: DlibIdentityLoss) -> None:
    faces = sample(load_prior(SHIPPED.with_name("prior_64.safetensors")), 0, range(8), truncation=0.7)
    noise = torch.randn(faces.shape, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(functional.pad(faces, (1, 1, 1, 1), "replicate"), 3, 1)
    known = loss.embed(faces)
    for changed in (faces.flip(3), blurred, faces + 0.1 * noise):
        assert torch.cdist(loss.embed(changed), known).argmin(1).tolist() == list(range(8))


def test_it_is_the_mean_squared_distance_whose_gradient_agrees_with_finite_differences(loss: DlibIdentityLoss) -> None:
    torch.manual_seed(1)
    restored, target = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    assert loss(target, target).item() == 0
    expected = (loss.embed(restored) - loss.embed(target)).square().sum(1).mean()
    torch.testing.assert_close(loss(restored, target), expected)
    double, (one, other) = DlibIdentityLoss().double(), (restored[:1].double(), target[:1].double())
    assert torch.autograd.gradcheck(lambda x: double(x, other), (one.requires_grad_(),), fast_mode=True)


def test_under_autocast_the_distance_stays_in_float32(loss: DlibIdentityLoss) -> None:
    torch.manual_seed(2)
    restored, target = torch.rand(2, 2, 3, 16, 16) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss(restored, target)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, loss(restored, target), rtol=0.1, atol=0)


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losses.weights.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="face_recognition_models is not installed; pip install"):
        DlibIdentityLoss()
