"""Randomness of a run depends on (seed, purpose, image index) alone and has the right distribution."""

import math

import numpy as np
import pytest
import torch

from data.randomness import (
    derive_seed,
    draw_crossovers,
    draw_noises,
    draw_normal,
    is_flipped,
    photograph_of,
    seeded_initialization,
)

INDICES = [0, 3, 1_000_000_007, 4, 1]


def test_seeds_are_the_same_on_every_machine() -> None:
    # printf 0/order/0 | b2sum -l 64, shifted right by one; a change here changes every run that anyone may resume.
    assert derive_seed(0, "order", 0) == 1829853113658518448
    assert derive_seed(0, "flip", 0) == 4867736377064953082
    assert derive_seed(-7, "degradation", 123456789) == 6043624148635689659


def test_seed_purpose_and_index_each_change_the_result() -> None:
    seeds = {derive_seed(seed, purpose, index) for seed in range(10) for purpose in "abc" for index in range(100)}
    assert len(seeds) == 3000


def test_seeds_fit_63_bits_and_fill_them_evenly() -> None:
    seeds = np.array([derive_seed(0, "evenness", index) for index in range(20_000)])
    assert seeds.min() >= 0 and seeds.max() < 2**63
    for bit in range(63):
        share = ((seeds >> bit) & 1).mean()
        assert abs(share - 0.5) < 5 * 0.5 / 20_000**0.5


def test_every_epoch_shows_every_photograph_once() -> None:
    shown = [photograph_of(0, index, 17) for index in range(3 * 17)]
    for epoch in range(3):
        assert sorted(shown[epoch * 17 : (epoch + 1) * 17]) == list(range(17))


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    orders = {
        tuple(photograph_of(seed, epoch * 50 + position, 50) for position in range(50))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


def test_the_order_is_the_recorded_one() -> None:
    # Recorded once: a change here changes every run that anyone wants to resume or repeat.
    assert [photograph_of(0, index, 8) for index in range(16)] == [3, 1, 7, 2, 0, 5, 4, 6, 0, 6, 2, 1, 3, 4, 5, 7]


def test_an_image_far_into_the_run_needs_none_of_the_earlier_ones() -> None:
    far = photograph_of(3, 25_000_000, 100)
    assert [photograph_of(3, index, 100) for index in range(24_999_995, 25_000_001)][-1] == far


def test_the_first_photograph_of_an_epoch_is_any_with_equal_chance() -> None:
    counts = [0] * 4
    for epoch in range(2000):
        counts[photograph_of(0, 4 * epoch, 4)] += 1
    assert all(abs(count - 500) < 100 for count in counts)  # five standard deviations


def test_flips_have_the_given_probability_and_its_ends_are_certain() -> None:
    flipped = sum(is_flipped(0, index, 0.25) for index in range(10_000))
    assert abs(flipped - 2500) < 220  # five standard deviations
    assert not any(is_flipped(0, index, 0.0) for index in range(1000))
    assert all(is_flipped(0, index, 1.0) for index in range(1000))


def test_an_image_flipped_at_a_low_probability_is_flipped_at_a_higher_one() -> None:
    for index in range(200):
        assert is_flipped(0, index, 0.3) <= is_flipped(0, index, 0.6)


def test_an_empty_set_and_a_negative_index_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 photographs and index 0"):
        photograph_of(0, 0, 0)
    with pytest.raises(ValueError, match="got 5 photographs and index -1"):
        photograph_of(0, -1, 5)


def test_each_row_of_a_draw_is_the_same_bit_for_bit_however_a_batch_is_divided() -> None:
    together = draw_normal((7, 5), 3, "latent", INDICES, "cpu")
    alone = torch.cat([draw_normal((7, 5), 3, "latent", [index], "cpu") for index in INDICES])
    turned = draw_normal((7, 5), 3, "latent", INDICES[::-1], "cpu").flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, turned)


def test_another_seed_purpose_or_index_gives_other_numbers() -> None:
    draws = [
        draw_normal((64,), seed, purpose, [index], "cpu")
        for seed, purpose, index in [(0, "latent", 0), (1, "latent", 0), (0, "noise", 0), (0, "latent", 1)]
    ]
    correlation = torch.corrcoef(torch.cat(draws)).fill_diagonal_(0)
    assert correlation.abs().max() < 5 / math.sqrt(64)
    assert len({tuple(draw[0].tolist()) for draw in draws}) == 4


def test_numbers_are_standard_normal_within_and_across_images() -> None:
    drawn = draw_normal((400,), 0, "latent", range(500), "cpu")
    count = drawn.numel()
    assert abs(drawn.mean().item()) < 4 / math.sqrt(count)
    assert abs(drawn.var().item() - 1) < 4 * math.sqrt(2 / count)
    assert abs(drawn.pow(3).mean().item()) < 4 * math.sqrt(15 / count)
    assert abs(drawn.pow(4).mean().item() - 3) < 4 * math.sqrt(96 / count)
    first = drawn[:, 0]  # the first number of many seeds
    assert abs(first.mean().item()) < 4 / math.sqrt(500) and abs(first.var().item() - 1) < 4 * math.sqrt(2 / 500)
    neighbours = (drawn[1:] * drawn[:-1]).mean().item()
    assert abs(neighbours) < 4 / math.sqrt(499 * 400)


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    draw_normal((4,), 0, "latent", [0, 1], "cpu")
    draw_noises([(2, 4, 4)], 0, "noise", [0, 1], "cpu")
    draw_crossovers(0.9, 8, 0, [0, 1])
    assert torch.equal(torch.get_rng_state(), before)


def test_noises_cut_one_draw_per_image_into_layers_with_channels_last() -> None:
    shapes = [(2, 4, 4), (3, 8, 8), (1, 8, 8)]
    noises = draw_noises(shapes, 5, "noise", INDICES, "cpu")
    flat = draw_normal((2 * 16 + 3 * 64 + 64,), 5, "noise", INDICES, "cpu")
    assert [tuple(noise.shape) for noise in noises] == [(5, *shape) for shape in shapes]
    start = 0
    for noise, (channels, height, width) in zip(noises, shapes, strict=True):
        for y, x, c in ((0, 0, 0), (1, 2, channels - 1), (height - 1, width - 1, 0)):
            assert torch.equal(noise[:, c, y, x], flat[:, start + (y * width + x) * channels + c])
        assert noise.stride()[1:] == (1, width * channels, channels)
        start += channels * height * width


def test_no_two_layers_share_their_noise() -> None:
    one, other = draw_noises([(8, 8, 8), (8, 8, 8)], 0, "noise", range(20), "cpu")
    assert abs((one * other).mean().item()) < 4 / math.sqrt(one.numel())


@pytest.mark.parametrize("probability", [0.0, 0.5, 0.9, 1.0])
def test_crossovers_mix_with_the_given_probability_at_a_uniform_layer(probability: float) -> None:
    num_styles, count = 8, 6000
    crossovers = draw_crossovers(probability, num_styles, 1, range(count))
    assert crossovers.dtype == torch.int64
    mixed = crossovers[crossovers < num_styles]
    deviation = math.sqrt(probability * (1 - probability) / count)
    assert abs(len(mixed) / count - probability) <= 4 * deviation
    if probability > 0:
        observed = torch.bincount(mixed, minlength=num_styles)
        assert observed[0] == 0  # at least the first layer comes from the first latent
        expected = len(mixed) / (num_styles - 1)
        chi_square = ((observed[1:] - expected) ** 2 / expected).sum().item()
        assert chi_square < 22.5  # the 99.9 % quantile for six degrees of freedom


def test_the_crossover_of_an_image_does_not_depend_on_its_batch() -> None:
    together = draw_crossovers(0.9, 12, 4, INDICES)
    assert together.tolist() == [draw_crossovers(0.9, 12, 4, [index]).item() for index in INDICES]


def test_initialization_repeats_for_a_seed_and_purpose_and_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    weights = []
    for seed, purpose in [(0, "prior"), (0, "prior"), (1, "prior"), (0, "restoration")]:
        torch.rand(3)  # whatever the global state is
        with seeded_initialization(seed, purpose):
            weights.append(torch.nn.Linear(4, 4).weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])
    torch.set_rng_state(before)
    with pytest.raises(RuntimeError, match="inside"), seeded_initialization(0, "prior"):
        torch.rand(5)
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)
