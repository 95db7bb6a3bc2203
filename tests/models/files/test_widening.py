"""From added to concatenated noise."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models import Architecture, Prior
from models.files.public_format import widen_to_concat

Tiny = Callable[..., Architecture]
Awaken = Callable[[nn.Module], Prior]


def widened(prior: Prior) -> Prior:
    wide = Prior(replace(prior.architecture, noise_mode="concat"))
    wide.load_state_dict(widen_to_concat(prior.state_dict(), prior.architecture))
    return wide


def random_noises(prior: Prior) -> list[Tensor]:
    return [torch.randn(3, *shape) for shape in prior.synthesis.noise_shapes()]


@pytest.fixture
def prior(tiny: Tiny, awaken: Awaken) -> Prior:
    """Added noise, every bias random."""
    return awaken(Prior(tiny("add", 64)))


@torch.no_grad()
def test_a_widened_prior_draws_the_same_images_without_noise(prior: Prior) -> None:
    wide, latent = widened(prior), torch.randn(3, 16)
    silent = [torch.zeros_like(noise) for noise in random_noises(prior)]
    expected = prior(latent, silent)
    assert float(expected.std()) > 0.1
    # The noise strengths of the widened prior are 0: noise changes nothing.
    torch.testing.assert_close(wide(latent, random_noises(wide)), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_noise_strengths_of_a_widened_prior_start_at_zero(prior: Prior) -> None:
    assert all(float(p) > 0.1 for n, p in prior.named_parameters() if n.endswith("noise_strength"))
    assert all(float(p) == 0 for n, p in widened(prior).named_parameters() if n.endswith("noise_strength"))


def test_every_parameter_of_a_widened_prior_can_learn(prior: Prior) -> None:
    wide = widened(prior)
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.1)
    wide(torch.randn(3, 16), random_noises(wide)).square().mean().backward()
    for name, parameter in wide.named_parameters():
        # The noise reaches the image through weights that start at 0: those learn first.
        if not name.endswith("noise_strength"):
            assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name
    noisy_weights = wide.get_parameter("synthesis.blocks.3.plain.convolution.weight")
    assert noisy_weights.grad is not None and float(noisy_weights.grad[:, 16:].abs().max()) > 0


@pytest.mark.parametrize("noise_mode", ["concat", "none"])
def test_only_added_noise_can_be_widened(tiny: Tiny, noise_mode: str) -> None:
    architecture = tiny(noise_mode)
    with pytest.raises(ValueError, match=f"^only a prior with noise mode add can be widened, got {noise_mode}$"):
        widen_to_concat(Prior(architecture).state_dict(), architecture)


def test_the_state_that_is_widened_stays_as_it_is(prior: Prior) -> None:
    before = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    wide = widened(prior)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in prior.state_dict().items())
