"""Leaky ReLU, alone and with what comes before it in a styled layer, with gradients that may be differentiated again.

PyTorch's gradient of a leaky ReLU's gradient holds a tensor of zeros for the input, and that of a slice is a
zero-filled copy in another memory layout; both then travel through the rest of the network.
"""

from typing import Any

import torch
from torch import Tensor

from models.operators.convolution import wants_parameters

LEAKY_SLOPE = 0.2


def leaky_relu_(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, in place; a convolution's output may be overwritten, its gradient does not need it."""
    if torch.compiler.is_compiling():
        return torch.nn.functional.leaky_relu(x, LEAKY_SLOPE)
    activated: Tensor = _LeakyReLU.apply(x)
    return activated


def modulated_activation(x: Tensor, scale: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
    """Leaky ReLU of cat(x · scale, noise · strength) + bias, in as few passes over memory as there can be.

    x [N, C, H, W] in channels_last layout, scale [N, C, 1, 1], noise [N, C, H, W], strength [1] and bias [2C] give [N,
    2C, H, W].
    """
    if torch.compiler.is_compiling():
        both = torch.cat([x * scale, noise * strength], dim=1) + bias[:, None, None]
        return torch.nn.functional.leaky_relu(both, LEAKY_SLOPE)
    activated: Tensor = _ModulatedActivation.apply(x, scale, noise, strength, bias)
    return activated


class _LeakyReLU(torch.autograd.Function):
    """Works in place, as the sign of the output is the sign of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        activated = torch.nn.functional.leaky_relu_(x, LEAKY_SLOPE)
        ctx.mark_dirty(x)
        ctx.save_for_backward(activated)
        return activated

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _LeakyGradient.apply(gradients[0], ctx.saved_tensors[0].detach())


class _LeakyGradient(torch.autograd.Function):
    """Linear in the output's gradient; constant in the activation wherever that is not 0."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, activated: Tensor) -> Tensor:
        ctx.save_for_backward(activated)
        return torch.ops.aten.leaky_relu_backward(gradient, activated, LEAKY_SLOPE, True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _LeakyGradient.apply(gradients[0], ctx.saved_tensors[0]), None


class _ModulatedActivation(torch.autograd.Function):
    """The end of a styled layer with concatenated noise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
        num_images, channels, height, width = x.shape
        out = x.new_empty(num_images, height, width, 2 * channels).permute(0, 3, 1, 2)  # [N, 2C, H, W]
        first_bias, second_bias = bias[None, :, None, None].chunk(2, dim=1)
        torch.addcmul(first_bias, x, scale, out=out[:, :channels])
        torch.addcmul(second_bias, noise, strength, out=out[:, channels:])
        torch.nn.functional.leaky_relu_(out, LEAKY_SLOPE)
        ctx.save_for_backward(x, scale, noise, strength, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, noise, strength, activated = ctx.saved_tensors
        both = _LeakyGradient.apply(gradients[0], activated.detach())  # [N, 2C, H, W]
        first, second = _Halves.apply(both)
        of_scale = (first * x).sum((2, 3), keepdim=True)
        if not wants_parameters():
            return first * scale, of_scale, None, None, None
        of_strength = (second * noise).sum().reshape(1)
        of_noise = second * strength if ctx.needs_input_grad[2] else None
        of_bias = both.sum((2, 3)).sum(0)  # twice as fast as at once
        return first * scale, of_scale, of_noise, of_strength, of_bias


class _Halves(torch.autograd.Function):
    """The two halves of the channels. PyTorch would put zeros in another memory layout for one that is not used."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return both.chunk(2, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Tensor:
        (used, *_) = (gradient for gradient in gradients if gradient is not None)
        return torch.cat([torch.zeros_like(used) if half is None else half for half in gradients], dim=1)
