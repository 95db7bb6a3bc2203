"""Dense convolutions whose gradients may be differentiated again, and which gradients a backward pass is to compute."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function
from torch.utils.checkpoint import checkpoint

from models.operators.formulations import (
    Operands,
    Options,
    choose,
    convolution_backward,
    input_gradient,
    weight_gradient,
)

_wants_parameters = True


@contextmanager
def features_only() -> Iterator[None]:
    """Inside, backward passes give no gradients for weights, biases, noise strengths and noise.

    For the gradient that a penalty measures (R1, path length); the penalty's own backward pass comes afterwards and
    gives them all. Autograd leaves out what nobody asked for, but an operator with a gradient of its own cannot know.
    """
    global _wants_parameters
    before, _wants_parameters = _wants_parameters, False  # not thread-local: autograd has threads of its own
    try:
        yield
    finally:
        _wants_parameters = before


def wants_parameters() -> bool:
    """Whether gradients for parameters and noise are to be computed."""
    return _wants_parameters


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Switches autocast off within a `with` block; does nothing on devices that have none, such as `meta`."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


Output = TypeVar("Output")


def run_block(block: Callable[..., Output], *inputs: object, recompute: bool) -> Output:
    """Calls a block; with `recompute` its activations are freed and computed anew in the backward pass.

    Source: Chen et al. 2016 (arXiv 1604.06174).
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)
    output: Output = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return output


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, transposed: bool = False
) -> Tensor:
    """`torch.nn.functional.conv2d`, or `conv_transpose2d`, in channels_last layout.

    Maps [N, I, H, W] with weight [O, I, K, K], [I, O, K, K] if transposed, and bias [O] to [N, O, H', W'], in
    autocast's precision where that is on; stride and padding in pixels, as the two PyTorch functions count it.
    """
    if torch.compiler.is_compiling():  # which makes gradients of its own, to be differentiated once
        compute = F.conv_transpose2d if transposed else F.conv2d
        return compute(x, weight, bias, stride, padding)
    if has_torch_function((x, weight)):  # quantization-aware training computes it in its own way
        replaced: Tensor = handle_torch_function(
            convolve, (x, weight), x, weight, bias, stride=stride, padding=padding, transposed=transposed
        )
        return replaced
    kind = x.device.type
    is_cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if is_cast else x.dtype
    bias = None if bias is None else bias.to(dtype)
    result: Tensor = _Convolution.apply(x.to(dtype), weight.to(dtype), bias, Options(stride, padding, transposed))
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options, ctx.has_bias = options, bias is not None
        return torch.ops.aten.convolution(x, weight, bias, *options.as_arguments())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient, needed = gradients[0], ctx.needs_input_grad[:3]
        if not wants_parameters():
            needed = (needed[0], False, False)
        if not torch.is_grad_enabled():
            return *convolution_gradients(gradient, x, weight, ctx.options, needed), None
        of_x = _InputGradient.apply(gradient, weight, x.detach(), ctx.options) if needed[0] else None
        of_weight = _WeightGradient.apply(gradient, x, weight.detach(), ctx.options) if needed[1] else None
        return of_x, of_weight, gradient.sum((0, 2, 3)) if needed[2] else None, None


class _InputGradient(torch.autograd.Function):
    """Gradient of the input, linear in the output's gradient and in the weight; `x` gives its shape and layout."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, x: Tensor, options: Options) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.options = options
        (of_x, _, _) = convolution_gradients(gradient, x, weight, options, (True, False, False))
        assert of_x is not None
        return of_x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weight = ctx.saved_tensors
        x, needed = gradients[0], ctx.needs_input_grad
        of_gradient = _Convolution.apply(x, weight, None, ctx.options) if needed[0] else None
        of_weight = _WeightGradient.apply(gradient, x, weight.detach(), ctx.options) if needed[1] else None
        return of_gradient, of_weight, None, None


class _WeightGradient(torch.autograd.Function):
    """Gradient of the weight, linear in the output's gradient and in the input; `weight` gives its shape and layout."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, options: Options) -> Tensor:
        ctx.save_for_backward(gradient, x)
        ctx.options = options
        (_, of_weight, _) = convolution_gradients(gradient, x, weight, options, (False, True, False))
        assert of_weight is not None
        return of_weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        weight, needed = gradients[0], ctx.needs_input_grad
        of_gradient = _Convolution.apply(x, weight, None, ctx.options) if needed[0] else None
        of_x = _InputGradient.apply(gradient, weight, x.detach(), ctx.options) if needed[1] else None
        return of_gradient, of_x, None, None


def convolution_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, options: Options, needed: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of input, weight and bias, as far as needed."""
    # A 1×1 weight or a lone channel leaves the layout open, and PyTorch would then take the slower one.
    operands = Operands(gradient.contiguous(memory_format=torch.channels_last), x, weight, options)
    of_input = choose("input", operands) if needed[0] else "whole"
    of_weight = choose("weight", operands) if needed[1] else "whole"
    if of_input == of_weight == "whole":
        return convolution_backward(operands, needed)
    return (
        input_gradient(of_input, operands) if needed[0] else None,
        weight_gradient(of_weight, operands) if needed[1] else None,
        operands.gradient.sum((0, 2, 3)) if needed[2] else None,
    )
