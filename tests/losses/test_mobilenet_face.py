from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.nn.functional import relu6

from inference.drawing import sample
from losses.face_crop import FaceCrop, crop_face
from losses.identity import SHIPPED, IdentityLoss, MobileNetFace
from losses.imagenet_features import same_convolution
from models import load_prior


@pytest.fixture(scope="module")
def loss() -> IdentityLoss:
    return IdentityLoss()


def test_the_shipped_network_is_small_and_says_where_it_comes_from() -> None:
    assert SHIPPED.stat().st_size < 3_300_000
    assert sum(parameter.numel() for parameter in MobileNetFace().parameters()) == 3_197_056
    assert "MIT License" in SHIPPED.with_suffix(".LICENSE.txt").read_text(encoding="utf-8")


def test_layers_pad_as_the_framework_that_trained_them_and_weights_are_bytes_times_scales(loss: IdentityLoss) -> None:
    stored = load_file(SHIPPED)
    features = torch.rand(1, 3, 128, 128)
    for index, (stride, padding) in enumerate(((2, (0, 1, 0, 1)), (1, (1, 1, 1, 1)))):  # even sizes: nothing in front
        weight = stored[f"layers.{index}.weight"].float()
        weight = weight * stored[f"layers.{index}.scale"].float()[:, None, None, None]
        convolved = functional.conv2d(
            functional.pad(features, padding),
            weight,
            stored[f"layers.{index}.bias"].float(),
            stride,
            groups=features.shape[1] // weight.shape[1],
        )
        expected = convolved.clamp(0, 6)
        torch.testing.assert_close(relu6(same_convolution(loss.network.layers[index], features)), expected)
        features = expected


def test_the_shipped_network_knows_every_drawn_face_again_when_it_is_mirrored_blurred_or_noisy(
    loss: IdentityLoss,
) -> None:
    faces = sample(load_prior(SHIPPED.with_name("prior_64.safetensors")), 0, range(12), truncation=0.7)
    noise = torch.randn(faces.shape, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(functional.pad(faces, (1, 1, 1, 1), "replicate"), 3, 1)
    for changed in (faces.flip(3), blurred, faces + 0.1 * noise):
        cosines = loss.embed(changed) @ loss.embed(faces).T
        assert cosines.argmax(1).tolist() == list(range(12))


def test_the_shipped_identity_loss_is_0_for_equal_faces_and_agrees_with_finite_differences(loss: IdentityLoss) -> None:
    torch.manual_seed(1)
    restored, target = torch.rand(2, 1, 3, 16, 16, dtype=torch.float64) * 2 - 1
    assert loss(target.float(), target.float()).item() == pytest.approx(0, abs=1e-6)
    double = IdentityLoss().double()
    assert torch.autograd.gradcheck(lambda x: double(x, target), (restored.requires_grad_(),), fast_mode=True)


def test_a_crop_of_the_whole_image_at_its_size_is_the_image() -> None:
    image = torch.rand(1, 3, 256, 256)
    torch.testing.assert_close(crop_face(image, FaceCrop(0, 0, 256, 256)), image)
    part = crop_face(image, FaceCrop(8, 16, 128, 64))
    torch.testing.assert_close(part, functional.avg_pool2d(image[:, :, 8:136, 16:144], 2))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors must hold the tensors of MobileNetFace"):
        MobileNetFace(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"y\.safetensors must be a PyTorch state dict"):
        MobileNetFace(tmp_path / "y.safetensors")
