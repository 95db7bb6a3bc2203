"""8-bit arithmetic of convolutions in float tensors, where ranges end, and the convolutions a network calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

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
    """A context in which a function of ours computes every convolution; the network itself stays as it is."""

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
    names = ("input", "weight", "bias", *_OPTIONS[operation])
    given = dict(zip(names[: len(operands)], operands, strict=True)) | dict(named)
    x = given.pop("x") if "x" in given else given.pop("input")
    weight, bias = given.pop("weight"), given.pop("bias", None)
    is_transposed = operation is torch.conv_transpose2d or given.get("transposed", False)
    is_depthwise = given.get("groups", 1) > 1
    out_dim, in_dim = (1, 0) if is_transposed and not is_depthwise else (0, 1)
    convolve_alike = partial(operation, bias=None, **given)
    return ConvolutionCall(index, x, weight, bias, out_dim, None if is_depthwise else in_dim, convolve_alike)


LEVELS = 128
"""Steps from 0 to the end of a range, 2^7; codes lie in [-127, 127].

Source: TVM's relay.quantize divides thresholds by 2^(bits - 1) and clips at ±(2^(bits - 1) - 1).
"""
HIGHEST_CODE = LEVELS - 1
NUM_CODES = 2 * LEVELS
"""Of engines that use all of a byte, as onnxruntime does, wherever 0 lies in it; see `ConvolutionGrid`."""
Codes = tuple[int, int]
"""First and last code of a tensor, counted from the code of 0."""
SYMMETRIC: Codes = (-HIGHEST_CODE, HIGHEST_CODE)
HIGHEST_BIAS_CODE = 2**31 - 1
LARGEST_PAIR = 128
"""What the codes of any two weights of one sign in a row may add up to where products are added in 16 bits.

An x86 processor without VNNI multiplies unsigned bytes by signed ones and adds two neighbouring products in 16 bits
that saturate (VPMADDUBSW): 255 * 128 = 32,640 is within 32,767, whichever two weights of the row are neighbours.
"""


@dataclass(frozen=True)
class ConvolutionGrid:
    """The steps between neighbouring codes of one convolution."""

    input_step: Tensor
    """Step of the input, scalar: one for the whole tensor."""
    weight_step: Tensor
    """Steps of the weight, [out_channels]."""
    output_step: Tensor | None = None
    """Step of the output, scalar, for targets that store it in 8 bits; None leaves the accumulators as they are."""
    input_codes: Codes = SYMMETRIC
    """Where the input is clipped; weights are at ±127."""
    output_codes: Codes = SYMMETRIC


def power_of_two_step(largest: Tensor) -> Tensor:
    """Step of a range that is rounded up to a power of two: 2^⌈log2(largest)⌉ / 128, 1 / 128 where everything is 0.

    Source: `weight_scale: power2` of TVM's relay.quantize.
    """
    # frexp instead of log2, whose rounding could take an exact power of two to the next one.
    mantissa, exponent = torch.frexp(largest)
    exponent = torch.where(mantissa == 0.5, exponent - 1, exponent)
    power = torch.ldexp(torch.ones_like(largest), exponent)
    return torch.where(largest > 0, power, torch.ones_like(largest)) / LEVELS


def weight_steps(weight: Tensor, out_dim: int) -> Tensor:
    """Power-of-two steps [out_channels] of a weight, from the largest value of each output channel."""
    return power_of_two_step(weight.detach().abs().amax(dim=[d for d in range(weight.ndim) if d != out_dim]))


def largest_pairs(weight: Tensor, out_dim: int) -> Tensor:
    """Largest absolute sum [out_channels] of two weights of one sign that make one output channel."""
    rows = weight.detach().movedim(out_dim, 0).flatten(1)
    two = [(sign * rows).clamp_min(0).topk(min(2, rows.shape[1]), dim=1).values.sum(dim=1) for sign in (1, -1)]
    return two[0].maximum(two[1])


def unsaturated_weight_steps(weight: Tensor, out_dim: int) -> Tensor:
    """Smallest steps [out_channels] of a weight with which no two products overflow 16 bits, see `LARGEST_PAIR`.

    Two codes of room are left, since learned rounding may take both weights of a pair up.
    """
    pairs = largest_pairs(weight, out_dim)
    return torch.where(pairs > 0, pairs, torch.ones_like(pairs)) / (LARGEST_PAIR - 2)


def round_straight_through(x: Tensor) -> Tensor:
    """Rounds half to even, with the gradient of the identity (arXiv 1308.3432 section 4)."""
    return x + (x.round() - x).detach()


def codes(x: Tensor, step: Tensor, ends: Codes = SYMMETRIC) -> Tensor:
    """Integer codes of values of any shape, as floats: round(x / step), clipped to the ends; the gradient is 1 / step
    inside the range and 0 outside."""
    return round_straight_through((x / step).clamp(*ends))


def bias_codes(bias: Tensor, step: Tensor) -> Tensor:
    """32-bit codes of a bias, whose step is that of the accumulators (input step times weight step)."""
    return round_straight_through((bias / step).clamp(-HIGHEST_BIAS_CODE, HIGHEST_BIAS_CODE))


def quantized_convolution(call: ConvolutionCall, grid: ConvolutionGrid) -> Tensor:
    """Computes a convolution with 8-bit operands and 32-bit accumulators and biases: [N, out_channels, H', W'], as the
    accumulators read in units of the network, on an 8-bit grid of their own where the grid has an output step.

    Source: arXiv 1712.05877 equation 4, codes counted from their zero points.
    """
    weight = codes(call.weight, along(grid.weight_step, call.out_dim))
    accumulators = call.convolve(codes(call.x, grid.input_step, grid.input_codes), weight)
    step = grid.input_step * grid.weight_step
    if call.bias is not None:
        accumulators = accumulators + along(bias_codes(call.bias, step), 1)
    if grid.output_step is None:
        return accumulators * along(step, 1)
    # One product with the ratio of the steps, as onnxruntime computes it: its ties fall to the same side.
    unit = torch.ones_like(grid.output_step)
    return codes(accumulators * along(step / grid.output_step, 1), unit, grid.output_codes) * grid.output_step


BALANCE = 0.5
"""Share of the unevenness of the input channels that is moved into the weights."""
SMALLEST = 1e-6
"""Channels below this share of the largest one count as that share: unused ones must not get endless factors."""


def balance(largest: Tensor, weight: Tensor, share: float = BALANCE) -> Tensor:
    """Factors on the input channels of a weight [out_channels, in_channels, K, K] that even out the channels of the
    input, by the largest absolute value of each, [in_channels]; a share of 1 makes the input channels equal, of 0 the
    columns of the weight.

    Gives float64 [in_channels] with a geometric mean of 1; what the weight is multiplied and the input divided by.

    Source: SmoothQuant (arXiv 2211.10438) equation 4, with each row of the weight taken relative to what it adds up to,
    so that a network and its rescaled copies are balanced alike.
    """
    largest = lift_small(largest)
    columns = weight.detach().double().abs().amax(dim=(2, 3))  # [out_channels, in_channels]
    sums = (columns * largest).square().sum(dim=1, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    return divide_by_mean(largest**share / lift_small((columns / sums).amax(dim=0)) ** (1 - share))


def divide_by_mean(values: Tensor) -> Tensor:
    """Values divided by their geometric mean."""
    return values / values.log().mean().exp()


def lift_small(values: Tensor) -> Tensor:
    """Values as float64 that are not too far below the largest; 1 if all are 0."""
    values = values.detach().double()
    largest = values.max()
    return torch.where(largest > 0, values.clamp_min(SMALLEST * largest), 1.0)


Calibration = Literal["max", "mse", "percentile", "kl"]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)
NUM_BINS = 8192
PERCENTILE = 99.99
"""Share of the values that stay inside the range; 99.9 costs several decibels."""
NUM_CANDIDATES = 128
"""How many thresholds are tried, from the largest value downwards."""
LOWEST_CANDIDATE = 0.1
"""The lowest of them as a share of the largest value."""


def histogram(x: Tensor, largest: Tensor) -> Tensor:
    """Counts absolute values in bins of equal width from 0 to `largest`, a scalar: float64 [NUM_BINS]."""
    return torch.histc(x.detach().abs().float(), NUM_BINS, 0, max(float(largest), 1e-30)).double()


def threshold(counts: Tensor, largest: Tensor, calibration: Calibration) -> Tensor:
    """Chooses the end of a range: a scalar in (0, largest], 1 if all values are 0.

    Of counts from `histogram`, summed over images, up to `largest`, a scalar, `max` takes the largest value; `mse` the
    threshold of least mean squared error; `percentile` the one within which 99.99 % of the values lie; `kl` that of
    least Kullback-Leibler divergence between the clipped histogram and its 8-bit version.
    """
    counts = counts.cpu()  # thousands of numbers that are looked at one by one, wherever they were counted
    if float(largest) <= 0:
        return torch.ones_like(largest)
    if calibration == "max":
        return largest
    if calibration == "percentile":
        inside = counts.cumsum(0) >= PERCENTILE / 100 * counts.sum()
        return largest * (int(inside.nonzero()[0]) + 1) / NUM_BINS
    bins = torch.linspace(LOWEST_CANDIDATE, 1, NUM_CANDIDATES).mul(NUM_BINS).round().long()
    score = _squared_error if calibration == "mse" else _divergence
    best = min(bins.tolist(), key=lambda kept: score(counts, kept))
    return largest * best / NUM_BINS


def _squared_error(counts: Tensor, kept: int) -> float:
    """Sum of squared errors, in bins, if the range ends after the first `kept` bins."""
    centres = torch.arange(NUM_BINS, dtype=torch.float64) + 0.5
    step = kept / LEVELS
    rounded = (centres / step).round().clamp(max=HIGHEST_CODE) * step
    return float((counts * (centres - rounded).square()).sum())


def _divergence(counts: Tensor, kept: int) -> float:
    """KL divergence of the 8-bit histogram from the clipped one, in nats.

    Source: Migacz, "8-bit inference with TensorRT" (GTC 2017), as in TVM's relay.quantize: every value outside is
    counted in the last bin, each level spreads its count evenly over those of its bins that are not empty.
    """
    clipped = counts[:kept].clone()
    reference = clipped.clone()
    reference[-1] += counts[kept:].sum()
    level = (torch.arange(kept) * LEVELS // kept).clamp(max=LEVELS - 1)
    occupied = (reference > 0).double()
    sums = torch.zeros(LEVELS, dtype=torch.float64).index_add_(0, level, clipped)
    numbers = torch.zeros(LEVELS, dtype=torch.float64).index_add_(0, level, occupied)
    spread = (sums / numbers.clamp(min=1))[level] * occupied
    p, q = reference / reference.sum(), spread / spread.sum().clamp(min=1e-300)
    present = p > 0
    # A level whose values were all clipped away has no count left: as much as impossible.
    return float((p[present] * (p[present] / q[present].clamp(min=1e-12)).log()).sum())
