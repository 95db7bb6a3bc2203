"""The time a piece of training would take if its dense convolutions were all there is to do."""

import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.operators.convolution import convolution_gradients
from models.operators.formulations import Options

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)

_REPLAYED: dict[Any, Callable[..., object]] = {
    _CONVOLUTIONS[0]: _CONVOLUTIONS[0],
    _CONVOLUTIONS[1]: lambda gradient, x, weight, bias, stride, padding, dilation, transposed, _, groups, needed: (
        convolution_gradients(gradient, x, weight, Options(stride[0], padding[0], transposed), tuple(needed))
    ),
}

Signature = tuple[Any, ...]


class ConvolutionRecorder(TorchDispatchMode):
    """Counts the dense convolutions, forward and backward, that run inside it, by shapes, layouts and options.

    Depthwise filters are left out: they are overhead that a better formulation could avoid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Signature] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        """Counts and passes on."""
        if function in _CONVOLUTIONS:
            is_backward = function is _CONVOLUTIONS[1]  # whose first argument is the output's gradient
            weight, groups = arguments[1 + is_backward], arguments[8 + is_backward]
            if groups == 1 and weight.shape[:2] != (1, 1):
                self.calls[(function, *(_describe(argument) for argument in arguments))] += 1
        return function(*arguments, **(options or {}))


def record(function: Callable[[], object]) -> Counter[Signature]:
    """The dense convolutions of one call of a function."""
    with ConvolutionRecorder() as recorder:
        function()
    return recorder.calls


def operations_of(call: Signature) -> int:
    """Multiplications and additions of a recorded convolution, or of those of its gradients that were asked for."""
    is_backward = call[0] is _CONVOLUTIONS[1]
    x, weight, _, stride, padding, _, is_transposed, *_ = call[1 + is_backward :]
    num_images, _, *size = x[1]
    if not is_transposed:  # a transposed one multiplies once for every pixel that it reads
        kernel_size = weight[1][-1]
        size = [(pixels + 2 * padding[0] - kernel_size) // stride[0] + 1 for pixels in size]
    number = sum(call[-1][:2]) if is_backward else 1
    return 2 * number * math.prod(weight[1]) * num_images * math.prod(size)


def replay(calls: Counter[Signature]) -> Callable[[], None]:
    """A function that runs the recorded convolutions, and nothing else, on random numbers of the same layout.

    Args:
        calls: From `record`.

    Returns:
        The function; each convolution as often as it was recorded, so that one call takes the time of the floor.
        Gradients are computed in the formulation that `models.operators.formulations` is told to choose.
    """
    instantiate = cache(_instantiate)  # operands of one kind are one tensor, else the floor takes more than training
    prepared = [
        (_REPLAYED[signature[0]], [instantiate(argument) for argument in signature[1:]], count)
        for signature, count in calls.items()
    ]

    def run() -> None:
        with torch.no_grad():
            for function, arguments, count in prepared:
                for _ in range(count):
                    function(*arguments)

    return run


def _describe(argument: Any) -> Any:
    """A tensor by shape, strides and precision, everything else by its value, as something that can be counted."""
    if isinstance(argument, Tensor):
        return ("tensor", tuple(argument.shape), tuple(argument.stride()), argument.dtype)
    return tuple(argument) if isinstance(argument, list) else argument


def _instantiate(argument: Any) -> Any:
    """The inverse of `_describe`, tensors with random values."""
    if isinstance(argument, tuple) and argument and argument[0] == "tensor":
        _, shape, strides, dtype = argument
        return torch.empty_strided(shape, strides, dtype=dtype).normal_()
    return list(argument) if isinstance(argument, tuple) else argument
