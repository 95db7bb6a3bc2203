"""Gram matrices and structure-texture similarity: closed forms, what they ignore, numerical gradients."""

import pytest
import torch
from torch import Tensor

from losses.distances import gram_loss, structure_texture_distances
from losses.imagenet_features import EfficientNetLite0


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_gram_loss_of_constant_channels_is_the_difference_of_their_products_over_their_number() -> None:
    ours, theirs = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    expected = (ours[:, None] * ours - theirs[:, None] * theirs).abs().mean() / 2
    one, other = (values[None, :, None, None].expand(1, 2, 5, 4) for values in (ours, theirs))
    assert gram_loss([one], [other]).item() == pytest.approx(expected.item(), rel=1e-6)
    assert gram_loss([one, one], [other, one]).item() == pytest.approx(expected.item() / 2, rel=1e-6)


def test_the_gram_loss_does_not_see_where_features_stand() -> None:
    features = random(2, 3, 4, 4)
    shuffled = features.flatten(2)[:, :, torch.randperm(16)].unflatten(2, (4, 4))
    assert gram_loss([features], [shuffled]).item() == pytest.approx(0.0, abs=1e-12)


def test_the_gradients_of_both_are_numerically_right() -> None:
    ours, theirs = (
        [random(2, 3, 4, 4).requires_grad_(), random(2, 2, 3, 3)],
        [random(2, 3, 4, 5)[..., :4] * 2, random(2, 2, 3, 4)[..., :3]],
    )
    assert torch.autograd.gradcheck(lambda x: gram_loss([x, ours[1]], theirs), ours[0])
    assert torch.autograd.gradcheck(lambda x: structure_texture_distances([x, ours[1]], theirs), ours[0])


def test_similarity_of_scaled_and_shifted_channels_has_a_closed_form() -> None:
    # x = a·y: both quotients are 2a / (1 + a²); x = -y: both are -1.
    y = random(1, 4, 8, 8) + 3
    for factor in (0.5, 2.0, -1.0):
        expected = 1 - 2 * factor / (1 + factor**2)
        assert structure_texture_distances([factor * y], [y]).item() == pytest.approx(expected, rel=1e-5)
    # x = y + c leaves structure as it is.
    mean = y.mean((2, 3))
    texture = 2 * mean * (mean + 1.5) / (mean.square() + (mean + 1.5).square())
    expected = 0.5 - texture.mean().item() / 2
    assert structure_texture_distances([y + 1.5], [y]).item() == pytest.approx(expected, rel=1e-4)


def test_equal_images_are_0_apart_each_for_itself() -> None:
    image = random(3, 2, 6, 6)
    other = torch.cat([image[:1], -image[1:2], image[2:]])
    found = structure_texture_distances([image], [other])
    assert found.shape == (3,)
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64), rtol=0.0, atol=1e-3)


def test_on_imagenet_features_another_piece_of_the_same_texture_is_nearer_than_its_blur() -> None:
    noise = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    target, same_texture = noise[..., :64], noise[..., 64:]
    blurred = torch.nn.functional.avg_pool2d(target, 5, 1, 2)
    network = EfficientNetLite0()
    target_features = network.features(target)
    for distance in (gram_loss, structure_texture_distances):
        same, blur = (float(distance(network.features(x), target_features).mean()) for x in (same_texture, blurred))
        assert same < 0.8 * blur
