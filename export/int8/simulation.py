"""What an integer target makes of a network: ranges, steps, convolutions in 8 bits, everything else in float."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.image_metrics import psnr, ssim
from models import quantization
from models.quantization import Calibration, Codes, ConvolutionCall, ConvolutionCalls, ConvolutionGrid

BATCH_SIZE = 8
Compute = Callable[[str, ConvolutionCall], Tensor]


@dataclass
class TensorRange:
    """Values of one tensor [N, C, H, W] over all calibration faces."""

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
    """Ranges of one convolution."""

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
def restore_with(network: nn.Module, faces: Tensor, compute: Compute) -> Tensor:
    """Restores degraded faces, uint8 [N, 3, R, R], to about [-1, 1] while a function of ours, told its name and
    operands, computes every convolution of a network that maps [-1, 1] to the same."""
    names = convolution_names(network)
    images = []
    for batch in faces.split(BATCH_SIZE):
        with ConvolutionCalls(lambda call: compute(names[id(call.weight)], call)):
            images.append(network(uint8_to_model(batch)))
    return torch.cat(images)


def calibration_ranges(network: nn.Module, faces: Tensor, histograms: bool = True) -> dict[str, ConvolutionRanges]:
    """Watches every convolution of a network restore degraded faces, uint8 [N, 3, R, R]: ranges by its name, in the
    order of execution. Histograms go over the faces once more."""
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
            counts = quantization.histogram(values, tensor.largest)
            tensor.counts = counts if tensor.counts is None else tensor.counts + counts
        return y

    restore_with(network, faces, measure)
    if histograms:
        restore_with(network, faces, count)
    return ranges


def _range(x: Tensor) -> TensorRange:
    return TensorRange(x.amin(dim=(0, 2, 3)), x.amax(dim=(0, 2, 3)))


def _widen(known: TensorRange, x: Tensor) -> None:
    more = _range(x)
    known.lowest, known.highest = known.lowest.minimum(more.lowest), known.highest.maximum(more.highest)


Target = Literal["vacc", "onnxruntime"]
"""`vacc`: codes lie in [-127, 127], weights have power-of-two steps and accumulators are read as floats, as by TVM's
relay.quantize before a product of two activations. `onnxruntime`: activations have 256 codes with 0 where their range
asks for it, its QLinearConv rounds its output to 8 bits, and weights have steps that allow for processors which add two
products in 16 bits."""
Grids = Mapping[str, ConvolutionGrid]
"""Steps by the name of the convolution; those that are missing stay in float."""


def choose_grids(
    network: nn.Module, ranges: Mapping[str, ConvolutionRanges], calibration: Calibration, target: Target
) -> dict[str, ConvolutionGrid]:
    """Chooses the steps of every convolution of the ranges, which come with histograms, for the arithmetic of a
    target."""
    grids = {}
    for name, range_ in ranges.items():
        module = network.get_submodule(name)
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)  # for the type checker: ranges name nothing else
        out_dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        if target == "vacc":
            input_step = _end(range_.input, calibration) / quantization.LEVELS
            grids[name] = ConvolutionGrid(input_step, quantization.weight_steps(module.weight, out_dim))
        else:
            input_step, input_codes = _whole_byte(range_.input, calibration)
            output_step, output_codes = _whole_byte(range_.output, calibration)
            weight_step = quantization.unsaturated_weight_steps(module.weight, out_dim)
            grids[name] = ConvolutionGrid(input_step, weight_step, output_step, input_codes, output_codes)
    return grids


def simulate(network: nn.Module, grids: Grids, faces: Tensor) -> Tensor:
    """Restores degraded faces, uint8 [N, 3, R, R], to about [-1, 1] with the convolutions of `grids` in integers;
    without any the network itself runs."""
    return restore_with(network, faces, compute_in_integers(grids))


def compute_in_integers(grids: Grids) -> Callable[[str, ConvolutionCall], Tensor]:
    """What computes the convolutions of `grids` in integers and the others as they are."""

    def compute(name: str, call: ConvolutionCall) -> Tensor:
        return quantization.quantized_convolution(call, grids[name]) if name in grids else call.compute()

    return compute


def _end(range_: TensorRange, calibration: Calibration) -> Tensor:
    """Largest absolute value of an activation that is not clipped, scalar."""
    assert range_.counts is not None  # for the type checker: ranges come with histograms here
    return quantization.threshold(range_.counts, range_.largest, calibration)


def _whole_byte(range_: TensorRange, calibration: Calibration) -> tuple[Tensor, Codes]:
    """Step and ends of 256 codes that cover an activation's own range and 0: after leaky ReLU little lies below."""
    end = _end(range_, calibration)
    lowest, highest = range_.lowest.min().clamp(-end, 0 * end), range_.highest.max().clamp(0 * end, end)
    width = highest - lowest
    step = torch.where(width > 0, width, end) / (quantization.NUM_CODES - 1)
    first = int((lowest / step).round())
    return step, (first, first + quantization.NUM_CODES - 1)


@dataclass(frozen=True)
class Quality:
    """Means over faces, of images rounded to 8 bits."""

    psnr: float
    """Against the clean faces, dB."""
    ssim: float
    psnr_to_float: float
    """Against the images of the float network, dB."""


def face_qualities(restored: Tensor, target: Tensor, restored_by_float: Tensor) -> Tensor:
    """Measures restored faces, [N, 3, R, R], about [-1, 1], against clean ones, uint8, and what the float network made:
    [N, 3], the columns of `Quality`."""
    images = model_to_uint8(restored.cpu())
    reference = model_to_uint8(restored_by_float.cpu())
    return torch.stack([psnr(images, target), ssim(images, target), psnr(images, reference)], dim=1)


def quality(restored: Tensor, target: Tensor, restored_by_float: Tensor) -> Quality:
    """The means of `face_qualities`."""
    return Quality(*face_qualities(restored, target, restored_by_float).mean(dim=0).tolist())
