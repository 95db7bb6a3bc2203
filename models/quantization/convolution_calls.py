"""Every convolution of a network, met while it runs: to watch it or to compute it in another way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models.operators.convolution import convolve

Size = int | tuple[int, int]


@dataclass(frozen=True)
class ConvolutionCall:
    """One convolution with its operands."""

    index: int
    """Number of the call in the order of execution, from 0."""
    x: Tensor
    """Input [N, in_channels, H, W]."""
    weight: Tensor
    """[out_channels, in_channels / groups, K, K]; transposed [in_channels, out_channels / groups, K, K]."""
    bias: Tensor | None
    """[out_channels]."""
    out_dim: int
    """Dimension of the weight that counts the output channels."""
    in_dim: int | None
    """Dimension of the weight that counts the input channels; None if the convolution is depthwise."""
    convolve: Callable[[Tensor, Tensor], Tensor]
    """The same convolution without bias, of an input and a weight of the same shapes."""

    def compute(self) -> Tensor:
        """What the network itself computes, [N, out_channels, H', W']."""
        y = self.convolve(self.x, self.weight)
        return y if self.bias is None else y + along(self.bias, 1)


class ConvolutionCalls(TorchFunctionMode):
    """A context in which a function of ours computes every convolution; the network itself stays as it is.

    Args:
        compute: Computes one call; `ConvolutionCall.compute` gives what the network itself would.
    """

    def __init__(self, compute: Callable[[ConvolutionCall], Tensor]) -> None:
        super().__init__()
        self.compute = compute
        self.count = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by PyTorch for each of its functions."""
        describe = _DESCRIPTIONS.get(function)
        if describe is None:
            return function(*args, **(kwargs or {}))
        call = describe(self.count, *args, **(kwargs or {}))
        self.count += 1
        return self.compute(call)


def along(values: Tensor, dim: int) -> Tensor:
    """[C] with three more dimensions of size 1, C along the given one: to scale or shift features or weights."""
    return values.reshape([-1 if d == dim else 1 for d in range(4)])


def _plain(
    index: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> ConvolutionCall:
    """A call of torch.conv2d."""
    convolve = partial(_without_bias, torch.conv2d, (stride, padding, dilation, groups))
    return ConvolutionCall(index, input, weight, bias, 0, 1 if groups == 1 else None, convolve)


def _transposed(
    index: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> ConvolutionCall:
    """A call of torch.conv_transpose2d."""
    convolve = partial(_without_bias, torch.conv_transpose2d, (stride, padding, output_padding, groups, dilation))
    out_dim, in_dim = (1, 0) if groups == 1 else (0, None)
    return ConvolutionCall(index, input, weight, bias, out_dim, in_dim, convolve)


def _without_bias(operation: Any, options: tuple[Any, ...], x: Tensor, weight: Tensor) -> Tensor:
    return operation(x, weight, None, *options)


def _dense(
    index: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    transposed: bool = False,
) -> ConvolutionCall:
    """A call of our own `convolve`."""
    plain = partial(convolve, bias=None, stride=stride, padding=padding, transposed=transposed)
    return ConvolutionCall(index, x, weight, bias, *((1, 0) if transposed else (0, 1)), plain)


_DESCRIPTIONS: dict[Any, Callable[..., ConvolutionCall]] = {
    torch.conv2d: _plain,
    torch.conv_transpose2d: _transposed,
    convolve: _dense,
}
