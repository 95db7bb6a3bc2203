"""Every formulation of a convolution's gradients is the same function, and a run keeps to the one it has chosen."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from models.operators import formulations
from models.operators.convolution import convolve
from models.operators.formulations import Formulation, choosing, fastest

CASES = {
    "3x3": ((2, 3, 8, 12), (4, 3, 3, 3), {"padding": 1}),
    "3x3 of stride 2": ((2, 3, 17, 9), (4, 3, 3, 3), {"stride": 2}),
    "3x3 of stride 2 on an even size": ((1, 2, 10, 10), (2, 2, 3, 3), {"stride": 2}),
    "transposed 3x3": ((2, 3, 8, 4), (3, 2, 3, 3), {"stride": 2, "transposed": True}),
    "1x1": ((2, 3, 6, 4), (5, 3, 1, 1), {}),
}
ALTERNATIVES: dict[str, tuple[Formulation, ...]] = {
    "3x3": ("tiles_32", "tiles_16"),
    "3x3 of stride 2": ("tiles_32", "tiles_16"),
    "3x3 of stride 2 on an even size": ("tiles_16",),
    "transposed 3x3": ("tiles_16",),
    "1x1": ("product",),
}
PAIRS = [(case, formulation) for case, names in ALTERNATIVES.items() for formulation in names]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 4 and 2 pixels, and a choice for every gradient, in float64 too."""
    monkeypatch.setattr(formulations, "TILES", {"tiles_32": 4, "tiles_16": 2})
    monkeypatch.setattr(formulations, "LEAST_OPERATIONS", 0)
    monkeypatch.setattr(formulations, "CHOOSING_TYPES", (torch.float32, torch.float64))


def take(formulation: Formulation, taken: list[Formulation]) -> formulations.Decide:
    """Decides for one formulation wherever there is it, and notes the decisions."""

    def decide(name: str, candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
        taken.append(formulation if formulation in candidates else "whole")
        return taken[-1]

    return decide


def operands(case: str) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    shape, weight_shape, options = CASES[case]
    x, weight = (torch.randn(s, dtype=torch.float64) for s in (shape, weight_shape))
    bias = torch.randn(weight_shape[1 if "transposed" in options else 0], dtype=torch.float64)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), options


@pytest.mark.parametrize(("case", "formulation"), PAIRS)
def test_first_and_second_derivatives_are_those_of_finite_differences(
    small: None, case: str, formulation: Formulation
) -> None:
    x, weight, bias, options = operands(case)
    taken: list[Formulation] = []
    with choosing(take(formulation, taken)):
        assert torch.autograd.gradcheck(lambda *given: convolve(*given, **options), (x, weight, bias))
        assert torch.autograd.gradgradcheck(lambda *given: convolve(*given, **options), (x, weight, bias))
    assert formulation in taken


@pytest.mark.parametrize(("case", "formulation"), PAIRS)
def test_gradients_of_two_orders_equal_those_of_whole_images(small: None, case: str, formulation: Formulation) -> None:
    x, weight, bias, options = operands(case)
    results = []
    for name in ("whole", formulation):
        with choosing(take(name, [])):
            y = convolve(x, weight, bias, **options)
            direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
            first = torch.autograd.grad((y.square() * direction).sum(), (x, weight, bias), create_graph=True)
            second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight, bias))
        results.append([*first, *second])
    for ours, whole in zip(*reversed(results), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-10)
        assert ours.shape == whole.shape


def test_real_sizes_agree_within_the_rounding_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 16, 65, 65).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(24, 16, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    monkeypatch.setattr(formulations, "LEAST_OPERATIONS", 0)
    gradients = []
    for name in ("whole", "tiles_16"):
        with choosing(take(name, [])):
            gradients += torch.autograd.grad(convolve(x, weight, stride=2).square().sum(), weight)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4 * gradients[0].abs().max().item())


def test_each_kind_of_gradient_is_decided_once(small: None) -> None:
    names: list[str] = []

    def decide(name: str, candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
        names.append(name)
        return "whole"

    x, weight, bias, options = operands("3x3")
    one_by_one, one_weight, _, _ = operands("1x1")
    with choosing(decide):
        for _ in range(3):
            convolve(x, weight, bias, **options).sum().backward()
            convolve(one_by_one, one_weight).sum().backward()
    assert names == [
        "weight of 2x3x8x12 * 4x3x3x3 stride 1 padding 1",
        "input of 2x3x6x4 * 5x3x1x1 stride 1 padding 0",
        "weight of 2x3x6x4 * 5x3x1x1 stride 1 padding 0",
    ]


def test_nothing_is_decided_outside_nor_for_small_work_or_other_precisions() -> None:
    def refuse(name: str, candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
        raise AssertionError(name)

    big = torch.randn(8, 32, 64, 64).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, 32, 3, 3).requires_grad_()
    convolve(big, weight, padding=1).sum().backward()
    with choosing(refuse):
        convolve(big[:1, :, :32, :32], weight, padding=1).sum().backward()
        convolve(big.bfloat16(), weight.bfloat16(), padding=1).sum().backward()
        with pytest.raises(AssertionError, match="weight of 8x32x64x64"):
            convolve(big, weight, padding=1).sum().backward()


def test_another_formulation_is_taken_only_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(formulations.time, "perf_counter", lambda: clock[0])

    def lasting(seconds: float) -> Callable[[], Tensor]:
        def compute() -> Tensor:
            clock[0] += seconds
            return torch.zeros([])

        return compute

    assert fastest({"whole": lasting(1.0), "tiles_32": lasting(0.95), "tiles_16": lasting(2.0)}) == "whole"
    assert fastest({"whole": lasting(1.0), "tiles_32": lasting(0.8), "tiles_16": lasting(0.5)}) == "tiles_16"
