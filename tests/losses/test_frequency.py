"""Focal frequency loss: closed forms for single frequencies, Parseval's theorem, gradients."""

import math

import pytest
import torch
from torch import Tensor

from losses.distances import focal_frequency_loss

SIZE = 16


def wave(cycles: int, amplitude: float) -> Tensor:
    """[1, 1, 16, 16], a horizontal cosine."""
    row = amplitude * torch.cos(2 * math.pi * cycles * torch.arange(SIZE, dtype=torch.float64) / SIZE)
    return row.expand(1, 1, SIZE, SIZE)


@pytest.mark.parametrize("cycles", [1, 3, 7])
def test_a_single_frequency_counts_as_its_mean_square(cycles: int) -> None:
    zero = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.float64)
    assert focal_frequency_loss(wave(cycles, 0.6), zero).item() == pytest.approx(0.6**2 / 2, rel=1e-12)


def test_a_frequency_that_is_less_far_off_counts_in_proportion_to_its_amplitude_cubed() -> None:
    # Energies a²/2 and b²/2, weights 1 and b/a.
    target = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.float64)
    loss = focal_frequency_loss(wave(2, 0.8) + wave(5, 0.2), target)
    assert loss.item() == pytest.approx(0.8**2 / 2 + 0.2**3 / 0.8 / 2, rel=1e-9)


def test_without_focus_it_is_the_mean_squared_difference_and_its_gradient_is_numerically_right() -> None:
    restored, target = torch.rand(2, 2, 3, 6, 8, dtype=torch.float64)
    loss = focal_frequency_loss(restored, target, focus=0.0)
    assert loss.item() == pytest.approx((restored - target).square().mean().item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: focal_frequency_loss(x, target, 0.0), restored.requires_grad_())


def test_the_weights_receive_no_gradient() -> None:
    # For one frequency the weight is 1 wherever it stands: the gradient is that of the mean squared difference.
    restored = wave(3, 0.5).clone().requires_grad_()
    focal_frequency_loss(restored, torch.zeros_like(restored)).backward()
    assert restored.grad is not None
    torch.testing.assert_close(restored.grad, 2 * restored.detach() / restored.numel(), rtol=1e-9, atol=1e-12)


def test_equal_images_have_no_distance_and_a_finite_gradient() -> None:
    image = torch.rand(2, 3, 8, 8)
    restored = image.clone().requires_grad_()
    loss = focal_frequency_loss(restored, image)
    loss.backward()
    assert loss.item() == 0 and restored.grad is not None and torch.equal(restored.grad, torch.zeros_like(image))


def test_half_precision_is_computed_in_float32() -> None:
    one, other = torch.rand(2, 1, 3, 8, 8).to(torch.bfloat16)
    loss = focal_frequency_loss(one, other)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(focal_frequency_loss(one.double(), other.double()).item(), rel=1e-4)
