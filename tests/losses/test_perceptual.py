from pathlib import Path
from typing import Literal

import lpips
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import alexnet
from torchvision.models.vgg import cfgs, make_layers

from losses.perceptual import LpipsLoss, backbone_weights

Network = Literal["alex", "vgg"]
RELU_POSITIONS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Places of the compared features in torchvision's `features`."""


def _random_backbone(network: Network) -> nn.Sequential:
    return alexnet(weights=None).features if network == "alex" else make_layers(cfgs["D"], batch_norm=False)


def _save(backbone: nn.Sequential, path: Path) -> Path:
    torch.save({f"features.{name}": tensor for name, tensor in backbone.state_dict().items()}, path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """AlexNet with random weights, as a file."""
    return _save(_random_backbone("alex"), tmp_path / "alex.pth")


def _pair(num_images: int = 3, resolution: int = 48) -> tuple[Tensor, Tensor]:
    return torch.rand(2, num_images, 3, resolution, resolution).mul(2).sub(1).unbind()


def _slow_distances(backbone: nn.Sequential, network: Network, restored: Tensor, target: Tensor) -> Tensor:
    """The paper's equation 1, place by place, from torchvision's network and the published heads."""
    heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{network}.pth", "cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    one, other = ((image - shift[:, None, None]) / scale[:, None, None] for image in (restored, target))
    total, layer = torch.zeros(len(restored)), 0
    for position, module in enumerate(backbone[: RELU_POSITIONS[network][-1] + 1]):
        one, other = module(one), module(other)
        if position in RELU_POSITIONS[network]:
            weight = heads[f"lin{layer}.model.1.weight"].flatten()
            difference = nn.functional.normalize(one) - nn.functional.normalize(other)
            total += torch.einsum("nchw,c->nhw", difference**2, weight).mean((1, 2))
            layer += 1
    assert layer == 5
    return total


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_the_distance_is_the_one_of_the_paper(network: Network, tmp_path: Path) -> None:
    backbone = _random_backbone(network).requires_grad_(False)
    restored, target = _pair()
    loss = LpipsLoss(network, _save(backbone, tmp_path / "x.pth"))
    expected = _slow_distances(backbone, network, restored, target)
    torch.testing.assert_close(loss.distances(restored, target), expected, rtol=1e-4, atol=1e-7)
    assert loss(restored, target).item() == pytest.approx(expected.mean().item(), rel=1e-4)


def test_equal_images_have_distance_0_and_the_distance_is_symmetric(weights: Path) -> None:
    loss = LpipsLoss("alex", weights)
    restored, target = _pair()
    assert loss(target, target).item() == 0
    torch.testing.assert_close(loss.distances(restored, target), loss.distances(target, restored))


def test_training_mode_changes_nothing_and_the_weights_stay_frozen(weights: Path) -> None:
    loss = LpipsLoss("alex", weights)
    restored, target = _pair()
    before = loss(restored, target)
    nn.Sequential(loss).train()
    assert torch.equal(loss(restored, target), before)
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_the_gradient_reaches_the_restored_image_only(weights: Path) -> None:
    restored, target = (image.requires_grad_() for image in _pair())
    LpipsLoss("alex", weights)(restored, target).backward()
    assert restored.grad is not None and restored.grad.abs().sum() > 0
    assert target.grad is None


def test_the_gradient_agrees_with_finite_differences(weights: Path) -> None:
    loss = LpipsLoss("alex", weights).double()
    restored, target = (image.double() for image in _pair(num_images=1, resolution=32))
    assert torch.autograd.gradcheck(loss, (restored.requires_grad_(), target), fast_mode=True)


def test_an_image_without_any_feature_gives_finite_gradients(tmp_path: Path) -> None:
    backbone = _random_backbone("alex")
    for parameter in backbone.parameters():
        nn.init.zeros_(parameter)
    restored, target = _pair()
    loss = LpipsLoss("alex", _save(backbone, tmp_path / "x.pth"))(restored.requires_grad_(), target)
    loss.backward()
    assert loss.item() == 0
    assert restored.grad is not None and restored.grad.eq(0).all()


def test_autocast_keeps_the_distance_in_float32(weights: Path) -> None:
    loss = LpipsLoss("alex", weights)
    restored, target = _pair()
    expected = loss(restored, target)
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(restored, target)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected.item(), rel=0.05)


def test_building_it_leaves_the_global_random_state_alone(weights: Path) -> None:
    before = torch.get_rng_state()
    LpipsLoss("alex", weights)
    assert torch.equal(before, torch.get_rng_state())


def test_a_file_of_another_network_and_an_unknown_network_are_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"alex\.pth must hold the tensors of vgg16"):
        LpipsLoss("vgg", weights)
    with pytest.raises(ValueError, match="must be one of alex, vgg, got 'squeeze'"):
        LpipsLoss("squeeze")  # type: ignore[arg-type]


def test_the_published_files_are_torchvisions() -> None:
    assert backbone_weights("alex").url == "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    assert backbone_weights("alex").sha256 == "7be5be79"
    assert backbone_weights("vgg").name == "vgg16-397923af.pth"


def test_without_weights_the_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str, *_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("GPEN_WEIGHTS", raising=False)
    with pytest.raises(FileNotFoundError, match=r"vgg16-397923af\.pth is needed .* no network"):
        LpipsLoss("vgg")
