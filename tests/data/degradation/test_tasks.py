"""Colorization, inpainting and super-resolution as degradations; what the field's degradations draw by image index."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.degradation.presets import load_preset
from data.degradation.sampling import DegradationParameters, sample_parameters
from data.degradation.synthesis import degrade
from data.ranges import model_to_uint8, uint8_to_model
from tests.fixtures.degradations import through_json

FIELD = load_preset("real_esrgan")


def faces(number: int, resolution: int) -> Tensor:
    """Smooth 8-bit pictures, [N, 3, R, R], [-1, 1]."""
    coarse = torch.rand(number, 3, 7, 7, generator=torch.Generator().manual_seed(2))
    smooth = torch.nn.functional.interpolate(coarse, (resolution, resolution), mode="bicubic")
    return uint8_to_model((smooth * 255).clamp(0, 255).to(torch.uint8))


def sampled(preset: str, number: int, resolution: int) -> list[DegradationParameters]:
    return [sample_parameters(load_preset(preset), 4, k, resolution) for k in range(number)]


def test_colorization_takes_the_colour_of_the_input_and_nothing_else() -> None:
    target = faces(3, 64)
    degraded, given = degrade(target, sampled("colorization", 3, 64))
    weights = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
    luma = torch.einsum("nchw,c->nhw", target, weights)[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(degraded, luma, rtol=0, atol=1e-6)
    assert torch.equal(given, target)


def test_inpainting_paints_over_parts_of_the_input_and_leaves_every_other_pixel() -> None:
    target = faces(8, 128)
    degraded, given = degrade(target, sampled("inpainting", 8, 128))
    assert torch.equal(given, target)
    lost = (degraded == 1).all(1)  # [N, R, R]
    kept = ~lost[:, None].expand_as(target)
    assert torch.equal(model_to_uint8(degraded)[kept], model_to_uint8(target)[kept])
    shares = lost.float().mean((1, 2))
    assert (shares > 0.02).all() and 0.1 < shares.mean() < 0.6 and len(set(shares.tolist())) == 8


def test_super_resolution_is_pillows_bicubic_down_and_up() -> None:
    target = faces(2, 128)
    degraded, _ = degrade(target, sampled("super_resolution_4", 2, 128))
    for one, result in zip(model_to_uint8(target), model_to_uint8(degraded), strict=True):
        image = Image.fromarray(one.permute(1, 2, 0).numpy())
        small = image.resize((32, 32), Image.Resampling.BICUBIC)
        expected = np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC), int)
        error = np.abs(result.permute(1, 2, 0).numpy() - expected)
        assert error.max() <= 2 and error.mean() < 0.4  # Pillow rounds after each of its four passes


def test_the_field_s_degradations_are_drawn_as_often_as_the_preset_says() -> None:
    drawn = [sample_parameters(FIELD, 0, k, 512) for k in range(2000)]
    first = [one.rounds[0] for one in drawn]
    kinds = [one.blur.kind for one in first if one.blur is not None]
    expected = {"sinc": 0.1, "generalised": 0.9 * 0.15, "plateau": 0.9 * 0.15, "gaussian": 0.9 * 0.7}
    for kind, share in expected.items():
        assert abs(kinds.count(kind) / len(kinds) - share) < 0.03, kind
    assert abs(np.mean([one.poisson_scale > 0 for one in first]) - 0.5) < 0.04
    assert all((one.poisson_scale > 0) != (one.noise_sigma > 0) for one in first)
    assert abs(np.mean([one.grey_noise for one in first]) - 0.4) < 0.04
    for name in ("downscale_mode", "upscale_mode"):
        modes = [getattr(one, name) for one in first]
        assert all(abs(modes.count(mode) / 2000 - 1 / 3) < 0.04 for mode in ("area", "bilinear", "bicubic"))
    second = [one.rounds[1] for one in drawn]
    assert abs(np.mean([one.webp_quality is not None for one in second]) - 0.2) < 0.03
    assert all((one.webp_quality is None) != (one.jpeg_quality is None) for one in second)


def test_new_kinds_leave_the_other_draws_as_they_are() -> None:
    plain = replace(
        FIELD.first,
        blur=replace(FIELD.first.blur, generalised_probability=0, plateau_probability=0, sinc_probability=0),
        poisson_probability=0,
        downscale_modes=("bilinear",),
    )
    for k in range(50):
        drawn = [sample_parameters(replace(FIELD, first=first), 1, k, 256) for first in (FIELD.first, plain)]
        one, other = (parameters.rounds for parameters in drawn)
        assert one[0].downscale == other[0].downscale and one[0].jpeg_quality == other[0].jpeg_quality
        assert one[0].noise_sigma in (0.0, other[0].noise_sigma) and one[1] == other[1]
        assert one[0].upscale_mode == other[0].upscale_mode and one[0].grey_noise == other[0].grey_noise


def test_every_kind_is_replayed_from_json_and_in_any_batch() -> None:
    target = faces(12, 64)
    ranges = replace(FIELD, mask=replace(load_preset("inpainting").mask, probability=0.5))
    parameters = [sample_parameters(ranges, 9, k, 64) for k in range(12)]
    assert len({one.rounds[0].blur.kind for one in parameters if one.rounds[0].blur}) >= 3
    assert {one.mask is None for one in parameters} == {True, False}
    again = [through_json(one) for one in parameters]
    assert again == parameters
    together = degrade(target, parameters).degraded
    for part in (slice(0, 1), slice(3, 7), slice(11, 12)):
        alone = degrade(target[part], again[part]).degraded
        torch.testing.assert_close(alone, together[part], rtol=0, atol=2e-6)
    assert together.abs().max() <= 1 and torch.isfinite(together).all()
