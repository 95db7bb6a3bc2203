"""Degradation of batches: OpenCV's recorded results, replay, independence of the batch, invariants."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data.degradation.presets import BlurRanges, ColorRanges, DegradationRanges, RoundRanges, load_preset
from data.degradation.sampling import BlurKernel, DegradationParameters, RoundParameters, sample_parameters
from data.degradation.synthesis import degrade
from data.ranges import model_to_uint8, uint8_to_model
from tests.fixtures.degradations import through_json

NOTHING = RoundParameters(blur=None, downscale=1.0, noise_sigma=0.0, noise_seed=1, jpeg_quality=None)
EVERYTHING = DegradationRanges(
    first=RoundRanges(
        blur=BlurRanges(probability=0.8, motion_probability=0.4),
        downscale_range=(0.8, 10.0),
        noise_sigma_range=(0.0, 15.0),
        jpeg_probability=0.7,
        jpeg_quality_range=(20, 100),
    ),
    second=RoundRanges(downscale_range=(1.0, 3.0)),
    second_probability=0.5,
    color=ColorRanges(
        grey_probability=0.3,
        jitter_probability=0.5,
        brightness_range=(0.7, 1.3),
        contrast_range=(0.7, 1.3),
        saturation_range=(0.0, 1.5),
    ),
)


def single(resolution: int, round_parameters: RoundParameters, grey: bool = False) -> DegradationParameters:
    return DegradationParameters(resolution, (round_parameters,), grey=grey)


def smooth_faces(num_faces: int, resolution: int) -> Tensor:
    """8-bit pictures with large and small structures, [N, 3, R, R], [-1, 1]."""
    random = torch.Generator().manual_seed(5)
    layers = [
        F.interpolate(torch.rand(num_faces, 3, size, size, generator=random), size=resolution, mode="bicubic")
        for size in (4, 9, resolution // 2)
    ]
    return uint8_to_model((torch.stack(layers).mean(0) * 255).clamp(0, 255).to(torch.uint8))


def decibels(one: Tensor, other: Tensor) -> float:
    """PSNR of images in [-1, 1]."""
    return float(-10 * torch.log10(((one.double() - other.double()) / 2).square().mean()))


# The measured distance less one decibel; what is lost is kornia's JPEG, see data/degradation/operators.py.
@pytest.mark.parametrize(
    ("case", "expected"), [(0, 46.8), (1, 42.3), (2, 40.5), (3, 42.1), (4, 48.2), (5, 48.9), (6, 40.1), (7, 38.0)]
)
def test_the_released_degradation_equals_the_recorded_opencv_result(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, case: int, expected: float
) -> None:
    stored = np.load(recorded / "degradation_opencv.npz")

    def to_image(name: str) -> Tensor:
        return torch.from_numpy(stored[f"{case}.{name}"]).permute(2, 0, 1)[None]

    def number(name: str) -> float:
        return float(stored[f"{case}.{name}"])

    sigma_x, sigma_y, angle = map(float, stored[f"{case}.sigma_x_sigma_y_theta"])
    noise = to_image("standard_normal")
    parameters = RoundParameters(
        blur=BlurKernel("gaussian", 41, sigma_x, sigma_y, angle_radians=angle),
        downscale=number("downscale"),
        noise_sigma=number("noise_sigma_255"),
        noise_seed=0,
        jpeg_quality=int(number("jpeg_quality")),
    )
    monkeypatch.setattr("data.degradation.operators.draw_noise", lambda *_: noise)
    assert noise.shape[-1] == int(256 / parameters.downscale)
    result = degrade(uint8_to_model(to_image("target")), [single(256, parameters)]).degraded
    assert decibels(uint8_to_model(model_to_uint8(result)), uint8_to_model(to_image("degraded"))) > expected


@pytest.mark.parametrize("resolution", [64, 128])
def test_each_image_of_a_batch_gets_bit_for_bit_what_it_gets_alone(resolution: int) -> None:
    target = smooth_faces(12, resolution)
    parameters = [sample_parameters(EVERYTHING, 0, index, resolution) for index in range(12)]
    assert {len(one.rounds) for one in parameters} == {1, 2}
    together = degrade(target, parameters)
    for index, one in enumerate(parameters):
        alone = degrade(target[index : index + 1], [one])
        assert torch.equal(alone.degraded[0], together.degraded[index])
        assert torch.equal(alone.target[0], together.target[index])
    half = degrade(target[4:9], parameters[4:9])
    assert torch.equal(half.degraded, together.degraded[4:9])


def test_parameters_that_went_through_json_replay_bit_for_bit() -> None:
    target = smooth_faces(6, 64)
    parameters = [sample_parameters(EVERYTHING, 1, index, 64) for index in range(6)]
    stored = [through_json(one) for one in parameters]
    torch.manual_seed(123)  # the global generator has no say
    replayed = degrade(target, stored)
    assert torch.equal(replayed.degraded, degrade(target, parameters).degraded)


def test_an_8_bit_image_without_any_degradation_comes_back() -> None:
    target = smooth_faces(2, 64)
    degraded, same = degrade(target, [single(64, NOTHING)] * 2)
    torch.testing.assert_close(degraded, target, atol=1e-5, rtol=0)
    assert torch.equal(same, target)


@pytest.mark.parametrize(
    "worse",
    [
        lambda step: dataclasses.replace(NOTHING, jpeg_quality=[95, 70, 40, 10][step]),
        lambda step: dataclasses.replace(NOTHING, noise_sigma=[1.0, 4.0, 10.0, 25.0][step]),
        lambda step: dataclasses.replace(NOTHING, downscale=[1.5, 3.0, 6.0, 12.0][step]),
        lambda step: dataclasses.replace(NOTHING, blur=BlurKernel("gaussian", 21, step + 0.5, step + 0.5)),
        lambda step: dataclasses.replace(NOTHING, blur=BlurKernel("motion", 21, length_pixels=3.0 + 4 * step)),
    ],
    ids=["quality", "noise", "downscale", "blur", "motion"],
)
def test_more_of_each_degradation_is_further_from_the_target(worse: Callable[[int], RoundParameters]) -> None:
    target = smooth_faces(1, 64)
    degraded = degrade(target.expand(4, -1, -1, -1), [single(64, worse(step)) for step in range(4)]).degraded
    distances = [decibels(one[None], target) for one in degraded]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] - distances[-1] > 4


def test_noise_has_the_given_strength_in_units_of_an_8_bit_level() -> None:
    grey = torch.zeros(1, 3, 128, 128)
    noisy = degrade(grey, [single(128, dataclasses.replace(NOTHING, noise_sigma=10.0))]).degraded
    assert float(noisy.std() * 127.5) == pytest.approx(10.0, rel=0.02)
    assert float((noisy[:, 0] * noisy[:, 1]).mean()) == pytest.approx(0, abs=2e-4)  # channels are independent


def test_isotropic_degradation_commutes_with_a_flip() -> None:
    target = smooth_faces(1, 64)
    blurred = dataclasses.replace(NOTHING, blur=BlurKernel("gaussian", 9, 1.3, 1.3), downscale=2.0)
    parameters = [single(64, blurred)]
    flipped = degrade(target.flip(-1), parameters).degraded.flip(-1)
    difference = (flipped - degrade(target, parameters).degraded).abs()
    assert float(difference.mean()) < 1e-4  # 8-bit rounding may differ by one level on single pixels
    assert float(difference.max()) <= 2.01 / 255


@pytest.mark.parametrize("grey_target", [True, False])
def test_grey_makes_the_channels_equal_and_the_target_too_if_asked(grey_target: bool) -> None:
    target = smooth_faces(2, 64)
    step = dataclasses.replace(NOTHING, noise_sigma=12.0, jpeg_quality=50)
    coloured = single(64, step)
    grey = dataclasses.replace(coloured, grey=True, grey_target=grey_target)
    degraded, new_target = degrade(target, [coloured, grey])
    assert torch.equal(degraded[1, 0], degraded[1, 1])
    assert torch.equal(degraded[1, 0], degraded[1, 2])
    assert not torch.equal(degraded[0, 0], degraded[0, 1])
    assert torch.equal(new_target[0], target[0])
    assert torch.equal(new_target[1, 0], new_target[1, 2]) == grey_target
    luma = (target[1] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    torch.testing.assert_close(new_target[1, 0], luma if grey_target else target[1, 0], atol=1e-5, rtol=0)


def test_colour_jitter_follows_its_formulas() -> None:
    target = smooth_faces(3, 64)
    plain = single(64, NOTHING)
    brightness, contrast = dataclasses.replace(plain, brightness=0.6), dataclasses.replace(plain, contrast=0.5)
    degraded = degrade(target, [brightness, contrast, dataclasses.replace(plain, saturation=0.0)]).degraded
    unit, result = target * 0.5 + 0.5, degraded * 0.5 + 0.5
    luma = (unit * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(result[0], unit[0] * 0.6, atol=1e-5, rtol=0)
    torch.testing.assert_close(result[1], 0.5 * unit[1] + 0.5 * luma[1].mean(), atol=1e-5, rtol=0)
    torch.testing.assert_close(result[2], luma[2].expand(3, -1, -1), atol=1e-5, rtol=0)


def test_two_rounds_are_one_after_the_other() -> None:
    target = smooth_faces(3, 64)
    two = [sample_parameters(load_preset("second_order"), 0, index, 64) for index in range(3)]
    once = degrade(target, [single(64, one.rounds[0]) for one in two]).degraded
    twice = degrade(once, [single(64, one.rounds[1]) for one in two]).degraded
    torch.testing.assert_close(degrade(target, two).degraded, twice, atol=2.01 / 255, rtol=0)
    assert float((degrade(target, two).degraded - twice).abs().mean()) < 1e-4


def test_autocast_and_gradients_do_not_reach_the_degradation() -> None:
    target = smooth_faces(3, 64)
    parameters = [sample_parameters(load_preset("released"), 0, index, 64) for index in range(3)]
    expected = degrade(target, parameters).degraded
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = degrade(target.clone().requires_grad_(), parameters).degraded
    assert torch.equal(inside, expected)
    assert not inside.requires_grad
    assert inside.dtype == torch.float32


@pytest.mark.parametrize("preset", ["paper", "difface", "small"])
def test_results_stay_in_range_and_the_given_target_is_left_alone(preset: str) -> None:
    target = smooth_faces(8, 64)
    before = target.clone()
    parameters = [sample_parameters(load_preset(preset), 0, index, 64) for index in range(8)]
    degraded = degrade(target, parameters).degraded
    assert torch.isfinite(degraded).all()
    assert float(degraded.abs().max()) <= 1
    assert torch.equal(target, before)


def test_an_empty_batch_is_degraded_to_an_empty_batch() -> None:
    assert degrade(torch.zeros(0, 3, 64, 64), []).degraded.shape == (0, 3, 64, 64)


@pytest.mark.parametrize(
    ("target", "num_parameters", "message"),
    [
        (torch.zeros(1, 1, 64, 64), 1, r"must be \[N, 3, R, R\]"),
        (torch.zeros(1, 3, 64, 32), 1, r"must be \[N, 3, R, R\]"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.float16), 1, "must be float32"),
        (torch.zeros(2, 3, 64, 64), 1, "every image needs its own parameters, got 1 for 2"),
        (torch.zeros(1, 3, 128, 128), 1, "sampled for 64 pixels but the target has 128"),
    ],
)
def test_a_batch_that_does_not_fit_its_parameters_is_refused(target: Tensor, num_parameters: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        degrade(target, [single(64, NOTHING)] * num_parameters)
