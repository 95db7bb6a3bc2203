import pytest
import torch

from data.ranges import model_to_uint8, model_to_unit, uint8_to_model, unit_to_model


def test_every_8_bit_value_survives_the_way_to_the_models_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    model = uint8_to_model(values)
    assert model.dtype == torch.float32
    assert model[0] == -1 and model[255] == 1
    assert torch.equal(model_to_uint8(model), values)


def test_rounding_goes_to_the_nearest_8_bit_value_in_half_precision_too() -> None:
    model = torch.tensor([-1, 1 / 127.5 * 0.6 - 1, 1 / 127.5 * 0.4 - 1, 0.0, 1])
    assert model_to_uint8(model).tolist() == [0, 1, 0, 128, 255]
    assert model_to_uint8(torch.tensor([-1, 0.5, 1], dtype=torch.bfloat16)).tolist() == [0, 191, 255]


def test_values_beyond_the_range_are_clamped_only_where_they_become_8_bit() -> None:
    model = torch.tensor([-3.0, 3.0])
    assert model_to_uint8(model).tolist() == [0, 255]
    assert model_to_unit(model).tolist() == [-1, 2]


def test_unit_and_model_ranges_are_inverse_affine_maps() -> None:
    unit = torch.tensor([0.0, 0.25, 1.0, 1.5], dtype=torch.float64)
    assert unit_to_model(unit).tolist() == [-1, -0.5, 1, 2]
    assert torch.equal(model_to_unit(unit_to_model(unit)), unit)


def test_float_pixels_are_refused_where_8_bit_ones_are_expected() -> None:
    with pytest.raises(ValueError, match=r"must be uint8, got torch\.float32; use unit_to_model"):
        uint8_to_model(torch.zeros(3))
