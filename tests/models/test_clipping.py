"""Ends of ranges against brute force on the values themselves."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantization import CALIBRATIONS, NUM_BINS, Calibration, codes, histogram, threshold


def heavy_tailed(seed: int = 0) -> Tensor:
    """Many small values and a few that are a hundred times larger."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(200_000, generator=random)
    x[:20] *= 30
    return x


def chosen(x: Tensor, calibration: str) -> float:
    largest = x.abs().max()
    return float(threshold(histogram(x, largest), largest, calibration))  # type: ignore[arg-type]


def test_a_histogram_counts_absolute_values_over_the_whole_range() -> None:
    x = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])
    counts = histogram(x, torch.tensor(1.0))
    assert counts.sum() == 5 and counts.dtype == torch.float64
    for value, number in ((0.0, 1), (0.25, 1), (0.5, 1), (1.0, 2)):
        assert counts[min(int(value * NUM_BINS), NUM_BINS - 1)] == number


def test_max_takes_the_largest_value_whatever_its_sign() -> None:
    assert chosen(torch.tensor([-7.5, 3.0]), "max") == 7.5
    assert chosen(torch.zeros(4), "mse") == 1


def test_percentile_leaves_one_value_in_ten_thousand_outside() -> None:
    x = heavy_tailed()
    expected = np.quantile(x.abs().double().numpy(), 0.9999)
    assert abs(chosen(x, "percentile") - expected) <= 2 * float(x.abs().max()) / NUM_BINS


def test_mse_takes_the_threshold_of_least_squared_error() -> None:
    x = heavy_tailed()
    largest = float(x.abs().max())
    candidates = np.linspace(0.1, 1, 128) * largest

    def error(end: float) -> float:
        step = torch.tensor(end / 128)
        return float((codes(x, step) * step - x).double().square().mean())

    errors = [error(end) for end in candidates]
    best = float(candidates[int(np.argmin(errors))])
    found = chosen(x, "mse")
    assert best < 0.9 * largest
    assert error(found) <= 1.005 * min(errors)
    assert abs(found - best) <= 3 * 0.9 / 127 * largest


def kl_divergence(x: np.ndarray, largest: float, kept: int) -> float:
    """Of the 8-bit histogram from the clipped one, level by level in plain loops."""
    counts, _ = np.histogram(np.abs(x), bins=NUM_BINS, range=(0, largest))
    reference = counts[:kept].astype(float)
    reference[-1] += counts[kept:].sum()
    spread = np.zeros(kept)
    for level in range(128):
        bins = [i for i in range(kept) if i * 128 // kept == level]
        occupied = [i for i in bins if reference[i] > 0]
        for i in occupied:
            spread[i] = counts[bins].sum() / len(occupied)
    p, q = reference / reference.sum(), spread / spread.sum()
    present = p > 0
    return float((p[present] * np.log(p[present] / np.maximum(q[present], 1e-12))).sum())


def test_kl_takes_the_threshold_of_least_divergence() -> None:
    x = heavy_tailed()
    largest = float(x.abs().max())
    kept = round(chosen(x, "kl") / largest * NUM_BINS)
    candidates = [round(share * NUM_BINS) for share in np.linspace(0.1, 1, 128)[::9]]
    divergences = [kl_divergence(x.numpy(), largest, candidate) for candidate in candidates]
    assert kl_divergence(x.numpy(), largest, kept) <= min(divergences) + 1e-9
    assert kept < 0.9 * NUM_BINS


def test_even_values_are_not_clipped_by_mse() -> None:
    x = torch.linspace(-1, 1, 100_001)
    assert chosen(x, "mse") == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_counts_of_another_device_are_brought_to_the_processor(
    calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the counts lie there; a tensor class that refuses to meet ordinary ones stands for it."""

    class Elsewhere(torch.Tensor):
        def cpu(self) -> torch.Tensor:  # type: ignore[override]
            return self.as_subclass(torch.Tensor)

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function not in (torch.Tensor.as_subclass, torch.Tensor.__float__):
                raise RuntimeError(f"expected all tensors on one device, {function} met two")
            return super().__torch_function__(function, types, args, kwargs or {})

    counts, largest = histogram(torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.tensor(4.0)), 4.0
    expected = threshold(counts, torch.tensor(largest), calibration)
    found = threshold(counts.as_subclass(Elsewhere), torch.tensor(largest), calibration)
    assert torch.equal(found, expected) and type(found) is torch.Tensor
