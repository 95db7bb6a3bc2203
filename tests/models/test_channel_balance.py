"""Balance of channels: closed forms, and that a rescaled layer is balanced to the same result."""

import torch

from models.quantization import balance, divide_by_mean, lift_small


def layer() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(6, generator=random).double() + 0.1, torch.randn(4, 6, 3, 3, generator=random).double()


def test_a_share_of_one_makes_the_input_channels_equal() -> None:
    largest, weight = layer()
    balanced = largest / balance(largest, weight, share=1)
    torch.testing.assert_close(balanced, balanced.mean().expand(6))


def test_a_share_of_zero_makes_the_columns_equal_relative_to_their_rows() -> None:
    largest, weight = layer()
    columns = weight.abs().amax(dim=(2, 3))
    relative = (columns / (columns * largest).square().sum(dim=1, keepdim=True).sqrt()).amax(dim=0)
    balanced = relative * balance(largest, weight, share=0)
    torch.testing.assert_close(balanced, balanced.mean().expand(6))


def test_factors_have_a_geometric_mean_of_one() -> None:
    assert abs(float(balance(*layer()).log().mean())) < 1e-12
    assert divide_by_mean(torch.tensor([2.0, 8.0])).tolist() == [0.5, 2.0]


def test_a_rescaled_layer_is_balanced_to_the_same_result() -> None:
    largest, weight = layer()
    inputs, outputs = torch.rand(6).double() + 0.1, torch.rand(4).double() + 0.1
    uneven = weight * inputs[None, :, None, None] * outputs[:, None, None, None]
    one = largest / balance(largest, weight)
    other = largest / inputs / balance(largest / inputs, uneven)
    torch.testing.assert_close(one / one.sum(), other / other.sum())


def test_unused_channels_get_no_endless_factor() -> None:
    assert lift_small(torch.tensor([0.0, 4.0])).tolist() == [4e-6, 4.0]
    assert lift_small(torch.zeros(2)).tolist() == [1.0, 1.0]
