"""Faces that a prior draws."""

import pytest
import torch

from data.randomness import draw_noises, draw_normal
from inference.drawing import NUM_LATENTS_OF_MEAN, sample
from models import Prior
from models.architecture import Architecture

TINY = Architecture(resolution=32, narrow=0.03125, style_dim=16, num_mapping_layers=2)


def test_truncation_moves_styles_towards_their_mean_and_leaves_the_noise_as_it_is() -> None:
    prior = Prior(TINY).eval()
    latents = draw_normal((16,), 0, "mean style", list(range(NUM_LATENTS_OF_MEAN)), torch.device("cpu"))
    styles = prior.mapping(draw_normal((16,), 3, "samples", [0, 1], torch.device("cpu")))
    mean = prior.mapping(latents).mean(dim=0)
    noises = draw_noises(prior.synthesis.noise_shapes(), 3, "samples noise", [0, 1], torch.device("cpu"))
    for factor in (1.0, 0.7, 0.0):
        moved = mean + factor * (styles - mean)
        expected = prior.synthesis(moved[:, None].expand(-1, TINY.num_styles, -1), noises)
        assert torch.allclose(sample(prior, 3, range(2), truncation=factor), expected, atol=1e-5), factor
    assert (sample(prior, 3, range(2), truncation=0.7) - sample(prior, 3, range(2))).abs().max() > 1e-3


@pytest.mark.parametrize("factor", [-0.1, 1.5, float("nan")])
def test_a_truncation_outside_of_its_range_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="truncation must be from 0"):
        sample(Prior(TINY), 3, range(1), truncation=factor)
