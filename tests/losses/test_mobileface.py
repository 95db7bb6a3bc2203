from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from losses.identity import SHIPPED, IdentityLoss, MobileFace, MobileFaceStage


@pytest.fixture(scope="module")
def loss() -> IdentityLoss:
    return IdentityLoss()


def test_the_shipped_network_is_small_and_says_where_it_comes_from() -> None:
    assert SHIPPED.stat().st_size < 1_200_000
    assert sum(parameter.numel() for parameter in MobileFace().parameters()) == 545_408
    assert "MIT License" in SHIPPED.with_suffix(".LICENSE.txt").read_text(encoding="utf-8")


def test_a_stage_adds_two_depthwise_layers_to_the_one_that_shrinks() -> None:
    torch.manual_seed(0)
    stage, features = MobileFaceStage(2, 3), torch.randn(1, 2, 5, 5)

    def layer(unit: nn.Sequential, x: Tensor, stride: int) -> Tensor:
        weight, slope = unit[0].weight, unit[1].weight[:, None, None]
        out = functional.conv2d(functional.pad(x, (1, 1, 1, 1)), weight, stride=stride, groups=3)
        return out.clamp_min(0) + slope * out.clamp_max(0)

    shrunk = layer(stage.shrink, torch.einsum("oi,nihw->nohw", stage.expand.weight[:, :, 0, 0], features), 2)
    expected = shrunk + layer(stage.second, layer(stage.first, shrunk, 1), 1)
    assert expected.shape == (1, 3, 3, 3)
    torch.testing.assert_close(stage(features), expected)


def test_the_shipped_network_calls_a_mirrored_face_the_same_person_and_noise_another(loss: IdentityLoss) -> None:
    torch.manual_seed(0)
    noise = torch.rand(2, 3, 64, 64) * 2 - 1
    smooth = functional.interpolate(torch.rand(1, 3, 6, 6) * 2 - 1, (64, 64), mode="bicubic")
    assert loss(smooth.flip(3), smooth) < loss(noise[:1], smooth)
    assert loss(smooth + 0.02 * noise[:1], smooth) < loss(smooth + 0.3 * noise[:1], smooth)


def test_the_shipped_identity_loss_is_0_for_equal_faces_and_agrees_with_finite_differences(loss: IdentityLoss) -> None:
    torch.manual_seed(1)
    restored, target = torch.rand(2, 1, 3, 16, 16, dtype=torch.float64) * 2 - 1
    assert loss(target.float(), target.float()).item() == pytest.approx(0, abs=1e-6)
    double = IdentityLoss().double()
    assert torch.autograd.gradcheck(lambda x: double(x, target), (restored.requires_grad_(),), fast_mode=True)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors must hold the tensors of MobileFace"):
        MobileFace(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"y\.safetensors must be a PyTorch state dict"):
        MobileFace(tmp_path / "y.safetensors")
