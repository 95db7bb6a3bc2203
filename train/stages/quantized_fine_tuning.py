"""Stage 2 with the rounding of int8 in its forward pass, so that the weights learn to live with it."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from models import GPEN, Architecture
from models.quantization import (
    HIGHEST_CODE,
    LEVELS,
    NUM_BINS,
    Calibration,
    ConvolutionCall,
    ConvolutionCalls,
    ConvolutionGrid,
    along,
    balance,
    divide_by_mean,
    histogram,
    lift_small,
    quantized_convolution,
    threshold,
    weight_steps,
)


class FakeQuantization(nn.Module):
    """Ranges of every convolution of a generator, chosen once from degraded faces, and the forward pass that rounds.

    Channels are balanced as `export.int8.equalization` does, with factors that stay as they were chosen. Its rescalings
    let the largest weight of each row fill a power of two, so that here a row's step is its largest weight over 127;
    only the filters, which cannot be rescaled, have powers of two as they are. `calibration` says where the ranges of
    activations end; `python -m export` chooses its own from what comes out.
    """

    thresholds: Tensor
    factors: Tensor

    def __init__(self, architecture: Architecture, calibration: Calibration) -> None:
        super().__init__()
        self.calibration = calibration
        self._was_calibrated = False
        self.widths = _input_widths(architecture)
        self.register_buffer("thresholds", torch.zeros(len(self.widths)))
        self.register_buffer("factors", torch.ones(sum(self.widths)))

    @torch.no_grad()
    def calibrate(self, generator: GPEN, degraded: Tensor) -> None:
        """Chooses ranges and factors from faces [N, 3, R, R] in [-1, 1]."""
        largest = torch.zeros(len(self.widths), device=degraded.device)
        counts = torch.zeros(len(self.widths), NUM_BINS, dtype=torch.float64, device=degraded.device)

        def choose_factors(call: ConvolutionCall) -> Tensor:
            channels = call.x.abs().amax(dim=(0, 2, 3))
            rows_first = call.weight if call.out_dim == 0 else call.weight.transpose(0, 1)
            is_filter = call.in_dim is None
            factor = divide_by_mean(lift_small(channels)) if is_filter else balance(channels, rows_first)
            self._factors()[call.index].copy_(factor)
            return call.compute()

        def measure(call: ConvolutionCall) -> Tensor:
            largest[call.index] = (call.x / along(self._factors()[call.index], 1)).abs().max()
            return call.compute()

        def count(call: ConvolutionCall) -> Tensor:
            balanced = call.x / along(self._factors()[call.index], 1)
            counts[call.index] = histogram(balanced, largest[call.index])
            return call.compute()

        for compute in (choose_factors, measure, count):
            with ConvolutionCalls(compute):
                generator(degraded)
        for index in range(len(self.widths)):
            self.thresholds[index] = threshold(counts[index], largest[index], self.calibration)

    @property
    def is_calibrated(self) -> bool:
        """Whether ranges were chosen; the device is asked only as long as they were not."""
        self._was_calibrated = self._was_calibrated or bool((self.thresholds > 0).all())
        return self._was_calibrated

    def restore(self, generator: GPEN, degraded: Tensor) -> Tensor:
        """What int8 makes of degraded faces [N, 3, R, R] in [-1, 1], with gradients as if nothing were rounded."""
        with ConvolutionCalls(self._quantized):
            restored: Tensor = generator(degraded)
        return restored

    def _quantized(self, call: ConvolutionCall) -> Tensor:
        # Balanced channels: what the input is divided by the weight is multiplied by.
        factor = self._factors()[call.index]
        weight = call.weight * along(factor, call.out_dim if call.in_dim is None else call.in_dim)
        # A step per output channel; input and weight are rounded to their steps.
        rest = [d for d in range(4) if d != call.out_dim]
        largest = weight.detach().abs().amax(dim=rest).clamp_min(torch.finfo(torch.float32).tiny)
        step = largest / HIGHEST_CODE if call.in_dim is not None else factor * weight_steps(call.weight, call.out_dim)
        grid = ConvolutionGrid(self.thresholds[call.index] / LEVELS, step)
        return quantized_convolution(replace(call, x=call.x / along(factor, 1), weight=weight), grid)

    def _factors(self) -> tuple[Tensor, ...]:
        return self.factors.split(self.widths)


def _input_widths(architecture: Architecture) -> list[int]:
    """Input channels of every convolution of a generator in the order of execution."""
    widths = []

    def note(call: ConvolutionCall) -> Tensor:
        widths.append(call.x.shape[1])
        return call.compute()

    with torch.device("meta"), torch.no_grad(), ConvolutionCalls(note):
        GPEN(architecture)(torch.empty(1, 3, architecture.resolution, architecture.resolution))
    return widths
