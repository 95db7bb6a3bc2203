"""Stage 2 with the rounding of int8: as much as the export rounds, with gradients, and resumed exactly."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.ranges import model_to_uint8, uint8_to_model
from export.int8.equalization import equalize
from export.int8.simulation import calibration_ranges, choose_grids, simulate
from export.static.network import StaticGPEN
from models import GPEN, Architecture
from train.stages.quantized_fine_tuning import FakeQuantization

QUANTIZED = ("--model.init_args.optimization.quantization", "mse")


@pytest.fixture
def generator(tiny: Architecture) -> GPEN:
    """A network with features that pass and channels that are not alike."""
    generator = GPEN(tiny).eval()
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
            elif name.endswith("weight") and "to_rgb" not in name:
                rows = torch.exp(0.5 * torch.randn(len(parameter), generator=random))
                parameter.mul_(rows.reshape([-1] + [1] * (parameter.ndim - 1)))
    return generator


@pytest.fixture
def degraded() -> Tensor:
    """Four smooth faces on the 8-bit grid, [4, 3, 32, 32]."""
    coarse = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(4))
    images = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").tanh()
    return uint8_to_model(model_to_uint8(images))


def decibels(images: Tensor, reference: Tensor) -> float:
    """PSNR for images in [-1, 1]."""
    return 10 * math.log10(4 / float((images - reference).double().square().mean()))


def test_every_convolution_gets_a_range_and_factors(generator: GPEN, degraded: Tensor) -> None:
    quantization = FakeQuantization(generator.architecture, "max")
    # 4 in the encoder with 3 filters; 4 plain, 3 upsampling with 3 filters. ToRGB is a matrix product and stays float.
    assert len(quantization.thresholds) == 7 + 4 + 6
    assert not quantization.is_calibrated
    quantization.calibrate(generator, degraded)
    assert quantization.is_calibrated
    assert quantization.widths[0] == 3
    factors = quantization.factors[:3]
    assert float(factors.log().sum()) == pytest.approx(0, abs=1e-5)
    balanced = degraded.abs().amax(dim=(0, 2, 3)) / factors
    assert float(quantization.thresholds[0]) == pytest.approx(float(balanced.max()), rel=1e-5)


def test_it_rounds_as_much_as_the_export_does(generator: GPEN, degraded: Tensor) -> None:
    quantization = FakeQuantization(generator.architecture, "mse")
    quantization.calibrate(generator, degraded)
    with torch.no_grad():
        expected = generator(degraded)
        trained = decibels(quantization.restore(generator, degraded), expected)
    faces = model_to_uint8(degraded)
    static = equalize(StaticGPEN(generator), faces, "vacc")
    grids = choose_grids(static, calibration_ranges(static, faces), "mse", "vacc")
    exported = decibels(simulate(static, grids, faces), expected)
    assert 25 < exported < 70
    assert trained == pytest.approx(exported, abs=3)


def test_gradients_reach_what_float_training_reaches_and_point_the_same_way(generator: GPEN, degraded: Tensor) -> None:
    quantization = FakeQuantization(generator.architecture, "max")
    quantization.calibrate(generator, degraded)
    direction = torch.randn(degraded.shape, generator=torch.Generator().manual_seed(5))
    parameters = dict(generator.named_parameters())
    both = [
        torch.autograd.grad((restored * direction).sum(), list(parameters.values()), allow_unused=True)
        for restored in (generator(degraded), quantization.restore(generator, degraded))
    ]
    for name, by_float, rounded in zip(parameters, *both, strict=True):
        assert (by_float is None) == (rounded is None), name
    joined = [torch.cat([g.flatten() for g in gradients if g is not None]) for gradients in both]
    assert float(torch.nn.functional.cosine_similarity(*joined, dim=0)) > 0.9


def test_the_gradient_of_a_weight_sees_rounded_inputs(generator: GPEN, degraded: Tensor) -> None:
    quantization = FakeQuantization(generator.architecture, "max")
    quantization.calibrate(generator, degraded)
    # Steps so coarse that all inputs of the third convolution become 0: its weight cannot learn, those before it can.
    quantization.thresholds[2] = 1000
    quantization.restore(generator, degraded).square().sum().backward()
    first, second = generator.encoder.from_rgb.weight.grad, generator.encoder.downs[0][1].weight.grad
    assert first is not None and second is not None
    assert float(second.abs().max()) == 0 < float(first.abs().max())


def test_a_continued_run_keeps_its_ranges_and_equals_an_uninterrupted_one(
    train: Callable[..., None],
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
    differences: Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]],
    tmp_path: Path,
) -> None:
    train("restoration", tmp_path / "whole", *QUANTIZED)
    train("restoration", tmp_path / "parts", *QUANTIZED, "--run.total_images", 12)
    train("restoration", tmp_path / "parts", *QUANTIZED)
    whole, parts = (read_checkpoint_file(tmp_path / name) for name in ("whole", "parts"))
    assert float(whole["state_dict"]["quantization.thresholds"].min()) > 0
    assert differences(whole["state_dict"], parts["state_dict"]) == []
    train("restoration", tmp_path / "float")
    unrounded = read_checkpoint_file(tmp_path / "float")["state_dict"]
    assert differences(unrounded, {n: v for n, v in whole["state_dict"].items() if n in unrounded}) != []


def test_wrong_calibrations_are_named(train: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="quantization"):
        train("restoration", tmp_path / "run", "--model.init_args.optimization.quantization", "minmax")
