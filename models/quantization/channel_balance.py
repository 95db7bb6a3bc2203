"""Unevenness of channels that share one 8-bit range, moved from where it hurts into the weights, where it does not."""

import torch
from torch import Tensor

BALANCE = 0.5
"""Share of the unevenness of the input channels that is moved into the weights."""
SMALLEST = 1e-6
"""Channels below this share of the largest one count as that share: unused ones must not get endless factors."""


def balance(largest: Tensor, weight: Tensor, share: float = BALANCE) -> Tensor:
    """Factors on the input channels of a weight that even out the channels of the input.

    Args:
        largest: Largest absolute value of every input channel, [in_channels].
        weight: [out_channels, in_channels, K, K].
        share: 1 makes the input channels equal, 0 the columns of the weight.

    Returns:
        float64 [in_channels] with a geometric mean of 1; what the weight is multiplied and the input divided by.

    Source: SmoothQuant (arXiv 2211.10438) equation 4, with each row of the weight taken relative to what it adds up to,
    so that a network and its rescaled copies are balanced alike.
    """
    largest = lift_small(largest)
    columns = weight.detach().double().abs().amax(dim=(2, 3))  # [out_channels, in_channels]
    sums = (columns * largest).square().sum(dim=1, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    return divide_by_mean(largest**share / lift_small((columns / sums).amax(dim=0)) ** (1 - share))


def divide_by_mean(values: Tensor) -> Tensor:
    """Values divided by their geometric mean."""
    return values / values.log().mean().exp()


def lift_small(values: Tensor) -> Tensor:
    """Values as float64 that are not too far below the largest; 1 if all are 0."""
    values = values.detach().double()
    largest = values.max()
    return torch.where(largest > 0, values.clamp_min(SMALLEST * largest), 1.0)
