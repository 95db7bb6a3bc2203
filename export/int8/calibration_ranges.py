"""What the inputs and outputs of every convolution look like on calibration faces."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.ranges import uint8_to_model
from models.quantization.clipping import histogram
from models.quantization.convolution_calls import ConvolutionCall, ConvolutionCalls

BATCH_SIZE = 8
Compute = Callable[[str, ConvolutionCall], Tensor]


@dataclass
class TensorRange:
    """Of one tensor [N, C, H, W] over all calibration faces."""

    lowest: Tensor
    """Smallest value of every channel, [C]."""
    highest: Tensor
    """Largest value of every channel, [C]."""
    counts: Tensor | None = None
    """Histogram of the absolute values of all channels, from 0 to `largest`; None if it was not asked for."""

    @property
    def channel_largest(self) -> Tensor:
        """Largest absolute value of every channel, [C]."""
        return self.lowest.abs().maximum(self.highest.abs())

    @property
    def largest(self) -> Tensor:
        """Largest absolute value, scalar."""
        return self.channel_largest.max()


@dataclass(frozen=True)
class ConvolutionRanges:
    """Of one convolution."""

    input: TensorRange
    output: TensorRange


def convolution_names(network: nn.Module) -> dict[int, str]:
    """Names of a network's convolutions by the identity of their weight, which a call of theirs brings along."""
    return {
        id(module.weight): name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }


@torch.no_grad()
def restored(network: nn.Module, faces: Tensor, compute: Compute, batch_size: int = BATCH_SIZE) -> Tensor:
    """Restores faces while a function of ours computes every convolution.

    Args:
        network: Maps [N, 3, R, R] in [-1, 1] to the same.
        faces: Degraded, uint8 [N, 3, R, R].
        compute: Told name and operands of each convolution.
        batch_size: Faces at a time.

    Returns:
        [N, 3, R, R], about [-1, 1].
    """
    names = convolution_names(network)
    images = []
    for batch in faces.split(batch_size):
        with ConvolutionCalls(lambda call: compute(names[id(call.weight)], call)):
            images.append(network(uint8_to_model(batch)))
    return torch.cat(images)


def calibration_ranges(network: nn.Module, faces: Tensor, histograms: bool = True) -> dict[str, ConvolutionRanges]:
    """Watches every convolution of a network restore faces.

    Args:
        network: Maps [N, 3, R, R] in [-1, 1] to the same.
        faces: Degraded faces, uint8 [N, 3, R, R].
        histograms: Go over the faces once more to count values.

    Returns:
        Ranges by the name of the convolution, in the order of execution.
    """
    ranges: dict[str, ConvolutionRanges] = {}

    def measure(name: str, call: ConvolutionCall) -> Tensor:
        y = call.compute()
        if name in ranges:
            _widen(ranges[name].input, call.x)
            _widen(ranges[name].output, y)
        else:
            ranges[name] = ConvolutionRanges(_range(call.x), _range(y))
        return y

    def count(name: str, call: ConvolutionCall) -> Tensor:
        y = call.compute()
        for tensor, values in ((ranges[name].input, call.x), (ranges[name].output, y)):
            counts = histogram(values, tensor.largest)
            tensor.counts = counts if tensor.counts is None else tensor.counts + counts
        return y

    restored(network, faces, measure)
    if histograms:
        restored(network, faces, count)
    return ranges


def _range(x: Tensor) -> TensorRange:
    return TensorRange(x.amin(dim=(0, 2, 3)), x.amax(dim=(0, 2, 3)))


def _widen(known: TensorRange, x: Tensor) -> None:
    """Takes in more values."""
    more = _range(x)
    known.lowest, known.highest = known.lowest.minimum(more.lowest), known.highest.maximum(more.highest)
