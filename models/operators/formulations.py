"""Exact ways to compute a convolution's gradients on a CPU, of which the fastest is taken for each shape.

oneDNN's weight gradient for AVX2 passes over whole images once per block of channels, so it runs at a quarter of the
forward pass's speed unless an image fits into the cache. Cut into tiles, with the border that the kernel sees, images
do. With AVX-512 the same cut costs a copy and gains nothing: only a measurement can tell.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Formulation = Literal["whole", "product", "tiles_32", "tiles_16"]
"""oneDNN on whole images, in channels_last layout; one matrix product over all pixels (1×1 kernels only); oneDNN on
tiles of so many pixels (weight gradients only)."""

Decide = Callable[[str, Mapping[Formulation, Callable[[], Tensor]]], Formulation]
"""Chooses among the formulations of a gradient, given what names its kind and functions that compute it."""

TILES: dict[Formulation, int] = {"tiles_32": 32, "tiles_16": 16}
CHOOSING_TYPES: tuple[torch.dtype, ...] = (torch.float32,)
"""On a CPU; bf16 gains nothing from the others."""
LEAST_OPERATIONS = 2e8
"""Multiplications and additions below which a gradient, of a few milliseconds, is not worth a measurement."""
LEAST_GAIN = 0.9
"""Share of the time of whole images that another formulation may take at most: choices should not follow noise."""
MEASUREMENT_SECONDS, MOST_REPETITIONS = 0.1, 3

_decide: Decide | None = None
_decided: dict[tuple[object, ...], Formulation] = {}


class Options(NamedTuple):
    """Options of a convolution that its gradients need."""

    stride: int
    padding: int
    transposed: bool

    def as_arguments(self) -> tuple[list[int], list[int], list[int], bool, list[int], int]:
        """Stride, padding, dilation, transposed, output padding, groups, as ATen wants them."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], self.transposed, [0, 0], 1


class Operands(NamedTuple):
    """What the gradients of a convolution are computed from."""

    gradient: Tensor
    """The output's gradient, [N, O, H', W'], in channels_last layout."""
    x: Tensor
    """[N, I, H, W], in channels_last layout."""
    weight: Tensor
    """[O, I, K, K]; [I, O, K, K] if transposed."""
    options: Options


@contextmanager
def choosing(decide: Decide) -> Iterator[None]:
    """Inside, `decide` is asked once for each kind of gradient; outside, images are convolved whole.

    GPUs have no choice: cuDNN has its own.
    """
    global _decide
    before, _decide = _decide, decide
    _decided.clear()
    try:
        yield
    finally:
        _decide = before
        _decided.clear()


def choose(wanted: Literal["input", "weight"], operands: Operands) -> Formulation:
    """The formulation of a gradient, "whole" where there is nothing to choose."""
    gradient, x, weight, options = operands
    if _decide is None or x.device.type != "cpu" or x.dtype not in CHOOSING_TYPES:
        return "whole"
    pixels = (x if options.transposed else gradient).shape
    if 2 * weight.numel() * pixels[0] * pixels[2] * pixels[3] < LEAST_OPERATIONS:
        return "whole"
    key = (wanted, x.shape, weight.shape, options)
    if key not in _decided:
        compute = input_gradient if wanted == "input" else weight_gradient
        candidates = {f: partial(compute, f, operands) for f in _possible(wanted, operands)}
        _decided[key] = "whole" if len(candidates) == 1 else _decide(_name_of(wanted, operands), candidates)
    return _decided[key]


def fastest(candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
    """Measures formulations and takes the fastest, "whole" unless another one is clearly faster."""
    seconds = {name: _seconds(compute) for name, compute in candidates.items()}
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < LEAST_GAIN * seconds["whole"] else "whole"


def input_gradient(formulation: Formulation, operands: Operands) -> Tensor:
    """Gradient of the input, [N, I, H, W], in channels_last layout."""
    if formulation == "product":
        pixels = _pixels(operands.gradient) @ operands.weight[:, :, 0, 0]
        return pixels.unflatten(0, (len(operands.x), *operands.x.shape[2:])).permute(0, 3, 1, 2)
    (of_x, _, _) = convolution_backward(operands, (True, False, False))
    assert of_x is not None
    return of_x


def weight_gradient(formulation: Formulation, operands: Operands) -> Tensor:
    """Gradient of the weight, in its shape."""
    gradient, x, weight, options = operands
    if formulation == "product":
        return (_pixels(gradient).T @ _pixels(x))[:, :, None, None]
    if formulation in TILES:
        side, (stride, padding, _) = TILES[formulation], options
        # A transposed convolution reads the pixels that the plain one writes, and the other way round.
        written, read = (x, gradient) if options.transposed else (gradient, x)
        seen = (side - 1) * stride + weight.shape[-1]
        operands = Operands(
            _cut(written, side, side),
            _cut(F.pad(read, [padding] * 4) if padding else read, seen, side * stride),
            weight,
            Options(stride, 0, transposed=False),
        )
    (_, of_weight, _) = convolution_backward(operands, (False, True, False))
    assert of_weight is not None
    return of_weight.contiguous(memory_format=torch.channels_last)


def convolution_backward(
    operands: Operands, needed: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """PyTorch's gradients of input, weight and bias, as far as needed."""
    gradient, x, weight, options = operands
    num_outputs = gradient.shape[1]
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        gradient, x, weight, [num_outputs] if needed[2] else None, *options.as_arguments(), needed
    )
    return gradients


def _possible(wanted: Literal["input", "weight"], operands: Operands) -> Sequence[Formulation]:
    gradient, x, weight, options = operands
    if weight.shape[-1] == 1:
        return ["whole", "product"] if options == Options(1, 0, False) else ["whole"]
    if wanted == "input":
        return ["whole"]
    height, width = (x if options.transposed else gradient).shape[2:]
    fitting = (name for name, side in TILES.items() if max(height, width) > side)
    return ["whole", *(name for name in fitting if height % TILES[name] == width % TILES[name] == 0)]


def _name_of(wanted: str, operands: Operands) -> str:
    """What a choice is recorded under."""
    _, x, weight, options = operands
    shapes = " * ".join("x".join(map(str, tensor.shape)) for tensor in (x, weight))
    kind = f"{'transposed ' * options.transposed}stride {options.stride} padding {options.padding}"
    return f"{wanted} of {shapes} {kind}"


def _seconds(compute: Callable[[], Tensor]) -> float:
    """The shortest time of a few calls, after one that prepares kernels."""
    compute()
    times: list[float] = []
    while len(times) < MOST_REPETITIONS and sum(times) < MEASUREMENT_SECONDS:
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    return min(times)


def _pixels(images: Tensor) -> Tensor:
    """[N, C, H, W] in channels_last layout as [N·H·W, C]."""
    return images.permute(0, 2, 3, 1).flatten(0, 2)


def _cut(images: Tensor, side: int, step: int) -> Tensor:
    """Cuts square tiles of a side out of [N, C, H, W], a step apart: [N·tiles, C, side, side] in channels_last."""
    tiles = images.unfold(2, side, step).unfold(3, side, step)  # [N, C, rows, columns, side, side]
    return tiles.permute(0, 2, 3, 4, 5, 1).flatten(0, 2).permute(0, 3, 1, 2)
