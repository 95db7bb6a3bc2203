import math

import pytest
import torch
from torch import Tensor

from losses.adversarial import discriminator_logistic_loss, generator_logistic_loss


def test_an_undecided_discriminator_costs_log_2_on_either_kind_of_image() -> None:
    undecided = torch.zeros(5, 1)
    assert generator_logistic_loss(undecided).item() == pytest.approx(math.log(2))
    assert discriminator_logistic_loss(undecided, undecided).item() == pytest.approx(2 * math.log(2))


def test_the_losses_are_the_cross_entropies_of_a_logistic_classifier() -> None:
    real, generated = torch.randn(7, 1, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    probability_real, probability_generated = 1 / (1 + (-real).exp()), 1 / (1 + (-generated).exp())
    discriminator = -probability_real.log().mean() - (1 - probability_generated).log().mean()
    assert discriminator_logistic_loss(real, generated).item() == pytest.approx(discriminator.item(), rel=1e-12)
    assert generator_logistic_loss(generated).item() == pytest.approx(-probability_generated.log().mean().item())


def test_the_generator_keeps_its_gradient_where_the_discriminator_is_sure() -> None:
    logits = torch.tensor([-1000.0, 0.0, 1000.0], requires_grad=True)
    loss = generator_logistic_loss(logits)
    assert loss.item() == pytest.approx((1000 + math.log(2)) / 3)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([-1 / 3, -1 / 6, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_float32_loss(dtype: torch.dtype) -> None:
    logits = torch.full((3, 1), -6.0, dtype=dtype)
    for loss in (generator_logistic_loss(logits), discriminator_logistic_loss(-logits, -logits) - 0.0024757):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(math.log1p(math.exp(6)), abs=1e-6)


def test_the_gradients_agree_with_finite_differences() -> None:
    def logits() -> Tensor:
        return torch.randn(4, 1, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(generator_logistic_loss, (logits(),))
    assert torch.autograd.gradcheck(discriminator_logistic_loss, (logits(), logits()))
