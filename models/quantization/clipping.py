"""Where to end the range of an 8-bit tensor: thresholds chosen from a histogram of its absolute values."""

from typing import Literal, get_args

import torch
from torch import Tensor

from models.quantization.arithmetic import HIGHEST_CODE, LEVELS

Calibration = Literal["max", "mse", "percentile", "kl"]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)
NUM_BINS = 8192
PERCENTILE = 99.99
"""Share of the values that stay inside the range; 99.9 costs several decibels."""
NUM_CANDIDATES = 128
"""How many thresholds are tried, from the largest value downwards."""
LOWEST_CANDIDATE = 0.1
"""The lowest of them as a share of the largest value."""


def histogram(x: Tensor, largest: Tensor) -> Tensor:
    """Counts absolute values.

    Args:
        x: Any shape.
        largest: Scalar, upper end of the last bin.

    Returns:
        float64 [NUM_BINS], bins of equal width from 0.
    """
    return torch.histc(x.detach().abs().float(), NUM_BINS, 0, max(float(largest), 1e-30)).double()


def threshold(counts: Tensor, largest: Tensor, calibration: Calibration) -> Tensor:
    """Chooses the end of a range.

    Args:
        counts: From `histogram`, summed over images.
        largest: Upper end of its last bin, scalar.
        calibration: `max` takes the largest value; `mse` the threshold of least mean squared error; `percentile` the
            one within which 99.99 % of the values lie; `kl` that of least Kullback-Leibler divergence between the
            clipped histogram and its 8-bit version.

    Returns:
        Scalar in (0, largest]; 1 if all values are 0.
    """
    counts = counts.cpu()  # thousands of numbers that are looked at one by one, wherever they were counted
    if float(largest) <= 0:
        return torch.ones_like(largest)
    if calibration == "max":
        return largest
    if calibration == "percentile":
        inside = counts.cumsum(0) >= PERCENTILE / 100 * counts.sum()
        return largest * (int(inside.nonzero()[0]) + 1) / NUM_BINS
    bins = torch.linspace(LOWEST_CANDIDATE, 1, NUM_CANDIDATES).mul(NUM_BINS).round().long()
    score = _squared_error if calibration == "mse" else _divergence
    best = min(bins.tolist(), key=lambda kept: score(counts, kept))
    return largest * best / NUM_BINS


def _squared_error(counts: Tensor, kept: int) -> float:
    """Sum of squared errors, in bins, if the range ends after the first `kept` bins."""
    centres = torch.arange(NUM_BINS, dtype=torch.float64) + 0.5
    step = kept / LEVELS
    rounded = (centres / step).round().clamp(max=HIGHEST_CODE) * step
    return float((counts * (centres - rounded).square()).sum())


def _divergence(counts: Tensor, kept: int) -> float:
    """KL divergence of the 8-bit histogram from the clipped one, in nats.

    Source: Migacz, "8-bit inference with TensorRT" (GTC 2017), as in TVM's relay.quantize: every value outside is
    counted in the last bin, each level spreads its count evenly over those of its bins that are not empty.
    """
    clipped = counts[:kept].clone()
    reference = clipped.clone()
    reference[-1] += counts[kept:].sum()
    level = (torch.arange(kept) * LEVELS // kept).clamp(max=LEVELS - 1)
    occupied = (reference > 0).double()
    sums = torch.zeros(LEVELS, dtype=torch.float64).index_add_(0, level, clipped)
    numbers = torch.zeros(LEVELS, dtype=torch.float64).index_add_(0, level, occupied)
    spread = (sums / numbers.clamp(min=1))[level] * occupied
    p, q = reference / reference.sum(), spread / spread.sum().clamp(min=1e-300)
    present = p > 0
    # A level whose values were all clipped away has no count left: as much as impossible.
    return float((p[present] * (p[present] / q[present].clamp(min=1e-12)).log()).sum())
