"""The moving average follows the generator with a half-life in images."""

import math

import pytest
import torch
from torch import nn

from train.updates.optimization import MovingAverage, follow


@pytest.mark.parametrize("batch_size", [1, 8, 40, 1000])
def test_after_half_life_images_an_old_weight_counts_half_whatever_the_batch(batch_size: int) -> None:
    average = MovingAverage(half_life_images=1000.0, ramp_up=None)
    old, new = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(old.weight, 8.0)
    nn.init.constant_(new.weight, 0.0)
    for images_seen in range(batch_size, 1001, batch_size):
        follow(old, new, average.decay(images_seen, batch_size))
    assert old.weight.item() == pytest.approx(4.0, rel=1e-4)
    assert new.weight.item() == 0.0


def test_the_ramp_up_shortens_the_half_life_to_a_share_of_the_images_seen() -> None:
    average = MovingAverage(half_life_images=10_000.0, ramp_up=0.05)
    assert average.decay(1_000, 32) == pytest.approx(0.5 ** (32 / 50), rel=1e-12)
    assert average.decay(200_000, 32) == pytest.approx(0.5 ** (32 / 10_000), rel=1e-12)
    assert average.decay(1_000_000, 32) == pytest.approx(0.5 ** (32 / 10_000), rel=1e-12)
    assert average.decay(0, 32) == 0.0


def test_with_ramp_up_the_random_start_is_forgotten_by_the_twentieth_power_of_progress() -> None:
    average = MovingAverage(half_life_images=1e12, ramp_up=0.05)
    batch_size = 10
    kept = math.prod(average.decay(k, batch_size) for k in range(1010, 2001, batch_size))
    # The integral of log(1/2) / (0.05 k) from 1000 to 2000 images.
    assert kept == pytest.approx(0.5 ** (20 * math.log(2)), rel=0.1)


def test_weights_are_interpolated_and_buffers_are_copied() -> None:
    average, generator = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.copy_(torch.tensor([1.0, 2.0]))
        generator.weight.copy_(torch.tensor([5.0, -2.0]))
        generator.running_mean.copy_(torch.tensor([7.0, 9.0]))  # type: ignore[union-attr]
        generator.num_batches_tracked.fill_(11)  # type: ignore[union-attr]
    follow(average, generator, 0.75)
    torch.testing.assert_close(average.weight.detach(), torch.tensor([2.0, 1.0]))
    assert torch.equal(average.running_mean, generator.running_mean)  # type: ignore[arg-type]
    assert average.num_batches_tracked == 11
    assert torch.equal(generator.weight.detach(), torch.tensor([5.0, -2.0]))


def test_following_with_decay_0_copies_and_with_decay_1_stays() -> None:
    average, generator = nn.Linear(2, 2), nn.Linear(2, 2)
    before = average.weight.detach().clone()
    follow(average, generator, 1.0)
    assert torch.equal(average.weight, before)
    follow(average, generator, 0.0)
    assert torch.equal(average.weight, generator.weight)


@pytest.mark.parametrize("wrong", [{"half_life_images": 0.0}, {"ramp_up": 0.0}, {"half_life_images": -1.0}])
def test_a_half_life_or_ramp_up_that_is_not_above_0_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="half_life_images and ramp_up must be above 0, got"):
        MovingAverage(**wrong)
