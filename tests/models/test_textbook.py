"""The complete networks against their slow twins, which share nothing with them but the parameters."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks import textbook
from models import GPEN, Architecture, Discriminator, NoiseMode

Tiny = Callable[..., Architecture]
Awaken = Callable[[nn.Module], nn.Module]


def parameters_of(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters())


@pytest.mark.parametrize("noise_mode", ["concat", "none"])
def test_gpen_and_its_gradients_equal_the_textbook(
    tiny: Tiny, awaken: Awaken, in_float64: None, noise_mode: NoiseMode
) -> None:
    network = awaken(GPEN(tiny(noise_mode))).double()
    degraded = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    restored = network(degraded)
    expected, styles = textbook.gpen(degraded, parameters_of(network), noise_mode)
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-10)
    assert styles.shape == (2, 8, 16)
    direction, parameters = torch.randn_like(restored), list(network.parameters())
    ours, theirs = (
        torch.autograd.grad((image * direction).sum(), parameters, allow_unused=True, materialize_grads=True)
        for image in (restored, expected)
    )
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-8, atol=1e-8)


def test_discriminator_and_its_gradient_penalty_equal_the_textbook(
    tiny: Tiny, awaken: Awaken, in_float64: None
) -> None:
    network = awaken(Discriminator(tiny(), 2)).double()
    image = torch.randn(4, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    outcomes = []
    for logits in (network(image).logits, textbook.discriminator(image, parameters_of(network), 2)):
        (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        penalty = gradient.square().sum()
        outcomes.append(
            [
                logits,
                *torch.autograd.grad(penalty, list(network.parameters()), allow_unused=True, materialize_grads=True),
            ]
        )
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
