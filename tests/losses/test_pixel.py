import math

import pytest
import torch

from losses.distances import l1_loss, psnr_loss, smooth_l1_loss


def test_l1_is_the_mean_absolute_difference() -> None:
    restored = torch.tensor([[[[0.0, 1.0], [-1.0, 0.5]]]])
    target = torch.tensor([[[[0.5, 1.0], [1.0, 0.25]]]])
    assert l1_loss(restored, target).item() == pytest.approx((0.5 + 0 + 2 + 0.25) / 4)


def test_smooth_l1_is_quadratic_below_beta_and_linear_above() -> None:
    difference = torch.tensor([[[[0.5, -1.0, 2.0, 0.0]]]])
    target = torch.zeros_like(difference)
    assert smooth_l1_loss(difference, target).item() == pytest.approx((0.125 + 0.5 + 1.5 + 0) / 4)
    # beta 0.5: d²/(2·0.5) up to 0.5, then d − 0.25
    assert smooth_l1_loss(difference, target, beta=0.5).item() == pytest.approx((0.25 + 0.75 + 1.75 + 0) / 4)


def test_half_precision_images_are_compared_in_float32() -> None:
    restored, target = torch.full((1, 3, 4, 4), 6e4).half(), torch.full((1, 3, 4, 4), -6e4).half()
    for loss, expected in ((l1_loss(restored, target), 1.2e5), (smooth_l1_loss(restored, target), 1.2e5 - 0.5)):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_the_gradients_agree_with_finite_differences() -> None:
    restored = (2 * torch.randn(2, 3, 4, 4, dtype=torch.float64)).requires_grad_()
    target = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(l1_loss, (restored, target))
    assert torch.autograd.gradcheck(smooth_l1_loss, (restored, target))


def test_psnr_as_a_loss_is_the_mean_over_images_of_the_decibels_below_40() -> None:
    target = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    restored = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.02)]).double()  # 20 and 40 dB of [0, 1]
    expected = (10 * math.log10(1 + 100) + 10 * math.log10(2)) / 2
    assert psnr_loss(restored, target).item() == pytest.approx(expected, rel=1e-6)
    assert psnr_loss(target, target).item() == 0
    assert torch.autograd.gradcheck(psnr_loss, (restored[:, :, :2, :2].clone().requires_grad_(), target[:, :, :2, :2]))


def test_psnr_as_a_loss_pulls_hard_and_easy_images_with_the_same_share_of_their_error() -> None:
    target = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    restored = torch.stack([torch.full((3, 4, 4), 0.4), torch.full((3, 4, 4), 0.2)]).double().requires_grad_()
    psnr_loss(restored, target).backward()
    shares = (restored.grad * restored).sum((1, 2, 3))  # d loss / d log(error)
    assert shares[0].item() == pytest.approx(shares[1].item(), rel=0.01)
