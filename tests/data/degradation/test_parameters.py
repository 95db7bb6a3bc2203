"""Sampling: ranges, determinism, scaling with the resolution, storage and error messages."""

import math
from dataclasses import replace

import numpy as np
import pytest

from data.degradation.presets import BlurRanges, ColorRanges, DegradationRanges, RoundRanges, load_preset, preset_names
from data.degradation.sampling import sample_parameters, scale_kernel_size
from tests.fixtures.degradations import through_json

OTHERS = ("colorization", "inpainting", "super_resolution_4", "real_esrgan", "varied")
"""Presets whose draws other tests look at."""
NUM_SAMPLES = 2000
LEFT_OUT = {"downscale": 1.0, "noise_sigma": 0.0}


def assert_uniform(values: list[float], low: float, high: float) -> None:
    """Minimum, maximum and mean of a uniform draw; four standard errors for the mean."""
    assert low <= min(values) <= low + 0.02 * (high - low) + 1e-9
    assert high - 0.02 * (high - low) - 1e-9 <= max(values) <= high
    allowed = 4 * (high - low) / math.sqrt(12 * len(values)) + 1e-9
    assert np.mean(values) == pytest.approx((low + high) / 2, abs=allowed)


@pytest.mark.parametrize("name", [name for name in preset_names() if name not in OTHERS])
def test_samples_of_every_usual_preset_are_uniform_over_its_ranges(name: str) -> None:
    ranges = load_preset(name)
    samples = [sample_parameters(ranges, 0, index, 512) for index in range(NUM_SAMPLES)]
    for position, said in enumerate(one for one in (ranges.first, ranges.second) if one is not None):
        rounds = [sample.rounds[position] for sample in samples]
        assert_uniform([one.downscale for one in rounds], *said.downscale_range)
        assert_uniform([one.noise_sigma for one in rounds], *said.noise_sigma_range)
        assert_uniform([float(one.jpeg_quality or 0) for one in rounds], *map(float, said.jpeg_quality_range))
        kernels = [one.blur for one in rounds if one.blur is not None]
        assert len(kernels) / NUM_SAMPLES == pytest.approx(said.blur.probability, abs=0.04)
        gaussians = [one for one in kernels if one.kind == "gaussian"]
        assert len(gaussians) / len(kernels) == pytest.approx(1 - said.blur.motion_probability, abs=0.05)
        assert_uniform([one.sigma_x_pixels for one in gaussians], *said.blur.sigma_range)
        isotropic = [one for one in gaussians if one.sigma_x_pixels == one.sigma_y_pixels]
        assert len(isotropic) / len(gaussians) == pytest.approx(said.blur.isotropic_probability, abs=0.05)
        lengths = [one.length_pixels for one in kernels if one.kind == "motion"]
        if lengths:
            assert_uniform(lengths, *said.blur.motion_length_range)
    grey = np.mean([sample.grey for sample in samples])
    assert grey == pytest.approx(ranges.color.grey_probability, abs=0.04)


def test_parts_that_are_left_out_leave_the_other_draws_alone() -> None:
    ranges = load_preset("varied")
    whole = replace(ranges, first=replace(ranges.first, downscale_probability=1.0, noise_probability=1.0))
    drawn = [[sample_parameters(r, 0, k, 64).rounds[0] for k in range(NUM_SAMPLES)] for r in (ranges, whole)]
    kept_size, silent = ([getattr(one, name) == value for one in drawn[0]] for name, value in LEFT_OUT.items())
    assert np.mean(kept_size) == pytest.approx(0.25, abs=0.03) and np.mean(silent) == pytest.approx(0.15, abs=0.03)
    assert np.mean(np.logical_and(kept_size, silent)) == pytest.approx(0.0375, abs=0.015)
    for one, other, *states in zip(*drawn, kept_size, silent, strict=True):
        missing = {name: value for (name, value), state in zip(LEFT_OUT.items(), states, strict=True) if state}
        assert one == replace(other, **missing)


def test_no_noise_is_neither_gaussian_nor_poisson() -> None:
    ranges = DegradationRanges(first=RoundRanges(poisson_probability=0.5, noise_probability=0.0))
    rounds = [sample_parameters(ranges, 0, index, 64).rounds[0] for index in range(20)]
    assert {(one.noise_sigma, one.poisson_scale) for one in rounds} == {(0.0, 0.0)}


def test_both_ends_of_the_quality_range_are_drawn() -> None:
    ranges = DegradationRanges(first=RoundRanges(jpeg_quality_range=(60, 62)))
    drawn = {sample_parameters(ranges, 0, index, 64).rounds[0].jpeg_quality for index in range(60)}
    assert drawn == {60, 61, 62}


def test_the_draw_is_a_function_of_seed_and_image_index() -> None:
    ranges = load_preset("second_order")
    again = [sample_parameters(ranges, seed, index, 128) for seed, index in ((0, 7), (0, 7), (1, 7), (0, 8))]
    assert again[0] == again[1]
    assert len({one.rounds[0].noise_seed for one in again}) == 3
    assert len({one.rounds[0].downscale for one in again}) == 3
    assert again[0].rounds[0].noise_seed != again[0].rounds[1].noise_seed


def test_changing_one_range_leaves_the_other_draws_alone() -> None:
    plain = DegradationRanges()
    noisy = replace(plain, first=replace(plain.first, noise_sigma_range=(30.0, 40.0), jpeg_probability=0.0))
    for index in range(20):
        one, other = (sample_parameters(ranges, 3, index, 256) for ranges in (plain, noisy))
        assert (
            replace(other.rounds[0], noise_sigma=one.rounds[0].noise_sigma, jpeg_quality=one.rounds[0].jpeg_quality)
            == (one.rounds[0])
        )


def test_lengths_scale_with_the_resolution_and_the_factor_does_not() -> None:
    ranges = load_preset("paper")
    for index in range(40):
        large, small = (sample_parameters(ranges, 0, index, size).rounds[0] for size in (512, 64))
        assert large.blur is not None
        assert small.blur is not None
        assert small.blur.sigma_x_pixels == pytest.approx(large.blur.sigma_x_pixels / 8)
        assert small.blur.kernel_size_pixels == 5
        assert (small.downscale, small.noise_sigma) == (large.downscale, large.noise_sigma)


@pytest.mark.parametrize(
    ("resolution", "expected"), [(32, 3), (64, 5), (128, 11), (256, 21), (512, 41), (1024, 81), (2048, 165)]
)
def test_kernel_sizes_scale_to_the_nearest_odd_number(resolution: int, expected: int) -> None:
    size = scale_kernel_size(41, resolution)
    assert size % 2 == 1
    assert abs(size - max(3, 41 * resolution / 512)) <= 1
    assert size == expected or (resolution == 2048 and size == 163)  # 164 lies between both


def test_parameters_survive_json() -> None:
    ranges = DegradationRanges(
        first=RoundRanges(blur=BlurRanges(probability=0.5, motion_probability=0.5), jpeg_probability=0.5),
        second=RoundRanges(),
        second_probability=0.5,
        color=ColorRanges(grey_probability=0.5, jitter_probability=0.5, brightness_range=(0.8, 1.2)),
    )
    for index in range(50):
        parameters = sample_parameters(ranges, 0, index, 64)
        assert through_json(parameters) == parameters


def test_all_problems_of_one_config_are_reported_together() -> None:
    with pytest.raises(ValueError, match="degradation ranges") as caught:
        DegradationRanges(
            first=RoundRanges(
                blur=BlurRanges(probability=2.0, kernel_size_pixels=40, sigma_range=(3.0, 1.0)),
                downscale_range=(0.0, 4.0),
                noise_sigma_range=(-1.0, 5.0),
                jpeg_quality_range=(0, 100),
            ),
            second=RoundRanges(blur=BlurRanges(motion_probability=0.5, motion_length_range=(5.0, 60.0))),
            color=ColorRanges(grey_probability=-0.1, brightness_range=(1.2, 0.8)),
        )
    message = str(caught.value)
    for name in (
        "first.blur.probability",
        "first.blur.kernel_size_pixels",
        "first.blur.sigma_range",
        "first.downscale_range",
        "first.noise_sigma_range",
        "first.jpeg_quality_range",
        "second.blur.motion_length_range",
        "color.grey_probability",
        "color.brightness_range",
    ):
        assert name in message
    assert "\n" not in message


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="noise_sigma_range"):
        DegradationRanges(first=RoundRanges(noise_sigma_range=(0.0, number)))


def test_a_downscaling_that_leaves_no_pixel_is_refused() -> None:
    ranges = DegradationRanges(first=RoundRanges(downscale_range=(1.0, 80.0)))
    with pytest.raises(ValueError, match="less than one pixel of 64"):
        sample_parameters(ranges, 0, 0, 64)
