import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from losses.face_crop import crop_face
from losses.identity import ArcFace, ChannelAttention, IdentityLoss, ResidualUnit


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ArcFace with random weights and statistics, as a file."""
    torch.manual_seed(0)
    network = ArcFace()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("arcface") / "model_ir_se50.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def loss(weights: Path) -> IdentityLoss:
    return IdentityLoss(weights)


def _published_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes of model_ir_se50.pth, written out from the table of its layers, without step counters."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}

    names: dict[str, tuple[int, ...]] = {"input_layer.0.weight": (64, 3, 3, 3), "input_layer.2.weight": (64,)}
    names |= norm("input_layer.1", 64)
    outputs = [64] * 3 + [128] * 4 + [256] * 14 + [512] * 3
    for unit, (inputs, channels) in enumerate(zip([64, *outputs], outputs, strict=False)):
        name = f"body.{unit}.res_layer"
        names |= norm(f"{name}.0", inputs) | norm(f"{name}.4", channels)
        names |= {f"{name}.1.weight": (channels, inputs, 3, 3), f"{name}.2.weight": (channels,)}
        names |= {f"{name}.3.weight": (channels, channels, 3, 3)}
        names |= {f"{name}.5.fc1.weight": (channels // 16, channels, 1, 1)}
        names |= {f"{name}.5.fc2.weight": (channels, channels // 16, 1, 1)}
        if unit in (3, 7, 21):
            names |= {f"body.{unit}.shortcut_layer.0.weight": (channels, inputs, 1, 1)}
            names |= norm(f"body.{unit}.shortcut_layer.1", channels)
    names |= norm("output_layer.0", 512) | norm("output_layer.4", 512)
    return names | {"output_layer.3.weight": (512, 25088), "output_layer.3.bias": (512,)}


def test_the_tensors_have_the_published_names_and_shapes_and_number() -> None:
    with torch.device("meta"):
        network = ArcFace()
    state = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if "num_batches" not in name}
    assert state == _published_names()
    assert sum(parameter.numel() for parameter in network.parameters()) == 43_797_696


def test_channel_attention_scales_each_channel_by_the_gate_of_its_means() -> None:
    attention = ChannelAttention(16)
    nn.init.constant_(attention.fc1.weight, 1 / 16)
    nn.init.constant_(attention.fc2.weight, 2.0)
    features = torch.rand(1, 16, 3, 3)
    gate = 1 / (1 + math.exp(-2 * features.mean().item()))
    torch.testing.assert_close(attention(features), features * gate)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_unit_whose_residual_is_0_is_its_subsampled_input(stride: int) -> None:
    unit = ResidualUnit(32, 32, stride).eval()
    nn.init.zeros_(unit.res_layer[4].weight)
    features = torch.randn(2, 32, 8, 8)
    assert torch.equal(unit(features), features[:, :, ::stride, ::stride])


def test_the_gradient_of_a_residual_unit_agrees_with_finite_differences() -> None:
    unit = ResidualUnit(16, 32, 2).double().eval()
    assert torch.autograd.gradcheck(unit, (torch.randn(1, 16, 4, 4, dtype=torch.float64, requires_grad=True),))


def _slow_area(image: Tensor, size: int) -> Tensor:
    """Mean of the pixels that each of size × size cells touches, pixel by pixel; image [H, W]."""
    height, width = image.shape
    rows = [(i * height // size, -(-(i + 1) * height // size)) for i in range(size)]
    columns = [(j * width // size, -(-(j + 1) * width // size)) for j in range(size)]
    cells = [image[top:bottom, left:right].mean() for top, bottom in rows for left, right in columns]
    return torch.stack(cells).view(size, size)


def test_the_crop_of_an_image_of_512_pixels_is_the_mean_of_its_areas() -> None:
    image = torch.rand(512, 512)
    expected = _slow_area(image.view(256, 2, 256, 2).mean((1, 3))[35:223, 32:220], 112)
    torch.testing.assert_close(crop_face(image[None, None], ArcFace.crop)[0, 0], expected)


def test_the_crop_of_a_small_image_shows_the_same_part_of_the_face() -> None:
    ramp = torch.linspace(-1, 1, 512)[None, None, :, None].expand(1, 3, 512, 512)
    small = torch.nn.functional.interpolate(ramp, (64, 64), mode="area")
    torch.testing.assert_close(crop_face(small, ArcFace.crop), crop_face(ramp, ArcFace.crop), rtol=0, atol=0.003)


def test_pixels_outside_the_face_do_not_count_and_all_inside_do(loss: IdentityLoss) -> None:
    image = (torch.rand(1, 3, 256, 256) * 2 - 1).requires_grad_()
    (loss.embed(image) * torch.randn(1, 512)).sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)) > 0
    assert touched[35:223, 32:220].all()
    assert touched.sum() == 188 * 188


def test_identity_vectors_have_length_1_and_the_loss_is_one_minus_their_cosine(loss: IdentityLoss) -> None:
    restored, target = (torch.rand(2, 2, 3, 256, 256) * 2 - 1).unbind()
    one, other = loss.embed(restored), loss.embed(target)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(2))
    expected = 1 - torch.nn.functional.cosine_similarity(one, other).mean()
    assert expected > 1e-3
    assert loss(restored, target).item() == pytest.approx(expected.item(), abs=1e-6)
    assert loss(target, target).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_reaches_the_restored_image_only_and_training_mode_changes_nothing(loss: IdentityLoss) -> None:
    restored, target = ((torch.rand(1, 3, 64, 64) * 2 - 1).requires_grad_() for _ in range(2))
    value = loss.train()(restored, target)
    value.backward()
    assert restored.grad is not None and restored.grad.abs().sum() > 0
    assert target.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert torch.equal(loss.eval()(restored, target), value)


def test_a_file_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth must hold the tensors of ArcFace, but \d+ of them") as error:
        IdentityLoss(tmp_path / "x.pth")
    assert "\n" not in str(error.value)


def test_a_file_of_arcface_that_is_not_there_is_named_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.pth is not a file; download model_ir_se50\.pth from https://"):
        IdentityLoss(tmp_path / "x.pth")
