"""Every convolution of a network, met while it runs: to watch it or to compute it in another way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models.operators.convolution import convolve


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
        if function not in _OPTIONS:
            return function(*args, **(kwargs or {}))
        call = _describe(function, self.count, args, kwargs or {})
        self.count += 1
        return self.compute(call)


def along(values: Tensor, dim: int) -> Tensor:
    """[C] with three more dimensions of size 1, C along the given one: to scale or shift features or weights."""
    return values.reshape([-1 if d == dim else 1 for d in range(4)])


_OPTIONS: dict[Any, tuple[str, ...]] = {
    torch.conv2d: ("stride", "padding", "dilation", "groups"),
    torch.conv_transpose2d: ("stride", "padding", "output_padding", "groups", "dilation"),
    convolve: ("stride", "padding", "transposed"),
}
"""Operations that are convolutions, and the names of what follows their input, weight and bias."""


def _describe(operation: Any, index: int, operands: Sequence[Any], named: Mapping[str, Any]) -> ConvolutionCall:
    given = dict(zip(("input", "weight", "bias", *_OPTIONS[operation]), operands, strict=False)) | dict(named)
    x = given.pop("x") if "x" in given else given.pop("input")
    weight, bias = given.pop("weight"), given.pop("bias", None)
    is_transposed = operation is torch.conv_transpose2d or given.get("transposed", False)
    is_depthwise = given.get("groups", 1) > 1
    out_dim, in_dim = (1, 0) if is_transposed and not is_depthwise else (0, 1)
    convolve_alike = partial(operation, bias=None, **given)
    return ConvolutionCall(index, x, weight, bias, out_dim, None if is_depthwise else in_dim, convolve_alike)
