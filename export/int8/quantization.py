"""Post-training quantization of the static form, and what each remedy and each way of calibration is worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from torch import Tensor

from evaluation.pairs import PairBatch
from export.int8 import layer_selection, simulation
from export.int8.adaptive_rounding import correct_biases, learn_rounding
from export.int8.equalization import equalize, random_factors, rescale
from export.int8.layer_selection import NO_BUDGET, LayerSensitivity, QualityBudget
from export.int8.simulation import ConvolutionRanges, Grids, Quality, Target
from export.static.graph import Layer, map_layers
from export.static.network import StaticGPEN
from models.quantization import CALIBRATIONS, Calibration
from system.live_progress import OnStep, ignore_step
from system.wording import counted

LayerPrecision = Literal["int8", "fp16"]


@dataclass(frozen=True)
class QuantizationSettings:
    """How a network is quantized."""

    calibration: Calibration = "mse"
    """Where the ranges of activations end: max, mse, percentile (99.99) or kl."""
    target: Target = "vacc"
    """Whose arithmetic is simulated."""
    budget: QualityBudget = field(default_factory=QualityBudget)
    """What int8 may cost; no FLOPs in float exclude no convolution and skip the sensitivity."""
    equalize: bool = True
    """Rescale channels before calibration."""
    correct_biases: bool = True
    """Take mean errors out of the biases."""
    rounding_iterations: int = 0
    """Steps of learned rounding for each convolution; 0 rounds to nearest."""
    num_sensitivity_faces: int = 32

    def __post_init__(self) -> None:
        for name, lowest in (("rounding_iterations", 0), ("num_sensitivity_faces", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"quantization: {name} must be at least {lowest}, got {getattr(self, name)}")


@dataclass(frozen=True)
class QuantizedNetwork:
    """A network that was prepared for int8, and what is known of it."""

    network: StaticGPEN
    """What to export: rescaled, biases corrected, weights on their grid if rounding was learned."""
    grids: Grids
    """Steps of the convolutions in int8 by name."""
    precisions: Mapping[str, LayerPrecision]
    reasons: Mapping[str, str]
    input_ranges: Mapping[str, tuple[float, float]]
    """Smallest and largest input of each convolution on the calibration faces, by name."""
    output_ranges: Mapping[str, tuple[float, float]]
    """Smallest and largest output of each convolution, in float."""
    sensitivity: tuple[LayerSensitivity, ...]
    """Cost of every convolution, measured on calibration faces; empty if it was skipped."""
    integer_flops: float

    def simulate(self, degraded: Tensor) -> Tensor:
        """Restores degraded faces, uint8 [N, 3, R, R], as the integer target does; [N, 3, R, R], about [-1, 1]."""
        return simulation.simulate(self.network, self.grids, degraded)


def quantize(
    network: StaticGPEN,
    layers: Sequence[Layer],
    calibration: PairBatch,
    settings: QuantizationSettings,
    on_step: OnStep,
    range_faces: Tensor | None = None,
) -> QuantizedNetwork:
    """Quantizes a copy of a network, all of whose layers are given by `export.static.graph.map_layers`, after training.

    Ranges, biases and layers are chosen on the calibration faces, ranges and biases on `range_faces` instead, uint8 [N,
    3, R, R], where these are given; nothing is measured on other faces. ValueError where there are none.
    """
    if min(len(calibration.degraded), 1 if range_faces is None else len(range_faces)) == 0:
        raise ValueError("calibration needs degraded faces, got none; name a folder with 50 to 100 of them")
    faces = calibration.degraded if range_faces is None else range_faces
    prepared, grids, ranges = _calibrate(network, faces, settings, on_step)
    sensitivity, reasons = _select(prepared, grids, layers, calibration, settings, on_step)
    grids = layer_selection.leave_out(grids, reasons)
    prepared = _correct(prepared, grids, faces, settings, on_step)
    integer = sum(layer.flops for layer in layers if layer.name in grids)
    return QuantizedNetwork(
        network=prepared,
        grids=grids,
        precisions={layer.name: "int8" if layer.name in grids else "fp16" for layer in layers},
        reasons=reasons,
        input_ranges=_ends(ranges, "input"),
        output_ranges=_ends(ranges, "output"),
        sensitivity=sensitivity,
        integer_flops=integer / sum(layer.flops for layer in layers),
    )


def _calibrate(
    network: StaticGPEN, faces: Tensor, settings: QuantizationSettings, on_step: OnStep
) -> tuple[StaticGPEN, Grids, dict[str, ConvolutionRanges]]:
    """The rescaled network, steps of all its convolutions and the ranges that they were chosen from."""
    if settings.equalize:
        on_step("rescaling channels")
        network = equalize(network, faces, settings.target)
    on_step(f"calibrating on {counted(len(faces), 'face')} ({settings.calibration})")
    ranges = simulation.calibration_ranges(network, faces)
    return network, simulation.choose_grids(network, ranges, settings.calibration, settings.target), ranges


def _ends(ranges: Mapping[str, ConvolutionRanges], side: Literal["input", "output"]) -> dict[str, tuple[float, float]]:
    tensors = {name: range_.input if side == "input" else range_.output for name, range_ in ranges.items()}
    return {name: (float(tensor.lowest.min()), float(tensor.highest.max())) for name, tensor in tensors.items()}


def _correct(
    network: StaticGPEN, grids: Grids, faces: Tensor, settings: QuantizationSettings, on_step: OnStep
) -> StaticGPEN:
    if settings.rounding_iterations > 0:
        on_step("learning to round")
        network = cast(StaticGPEN, learn_rounding(network, grids, faces, settings.rounding_iterations))
    if settings.correct_biases:
        on_step("correcting biases")
        network = cast(StaticGPEN, correct_biases(network, grids, faces))
    return network


def _select(
    network: StaticGPEN,
    grids: Grids,
    layers: Sequence[Layer],
    calibration: PairBatch,
    settings: QuantizationSettings,
    on_step: OnStep,
) -> tuple[tuple[LayerSensitivity, ...], dict[str, str]]:
    if settings.budget.largest_float_flops == 0:
        return (), {}
    measure = layer_selection.measure_on(network, calibration.first(settings.num_sensitivity_faces))
    sensitivity = layer_selection.layer_sensitivity(measure, grids, on_step)
    flops = {layer.name: layer.flops for layer in layers}
    return sensitivity, layer_selection.exclude_layers(measure, grids, sensitivity, flops, settings.budget, on_step)


def comparisons(
    network: StaticGPEN,
    calibration: PairBatch,
    evaluation: PairBatch,
    target: Target,
    imbalance: Sequence[float],
    rounding_iterations: int = 0,
    float_flops: float = 0.0,
) -> Iterator[tuple[str, Quality, Quality, float]]:
    """Quantizes a network, and copies of it whose channels are uneven, in every way: yields what was done in words, how
    well float and int8 restore other faces than those to calibrate on, and the share of FLOPs in int8.

    The imbalance is the σ of log-normal factors that make channels uneven without changing the function, 0 for none.
    Rounding is also learned, with so many steps per convolution, and layers are chosen for this share of the FLOPs in
    float, unless these are 0.
    """
    layers = map_layers(network)
    for deviation in imbalance:
        candidate = rescale(network, random_factors(network, deviation)) if deviation else network
        by_float = simulation.simulate(candidate, {}, evaluation.degraded)
        float_quality = simulation.quality(by_float, evaluation.target, by_float)
        which = f"uneven, σ = {deviation:g}" if deviation else "as trained"
        for words, settings in _ways(target, rounding_iterations, float_flops):
            result = quantize(candidate, layers, calibration, settings, ignore_step)
            measured = simulation.quality(result.simulate(evaluation.degraded), evaluation.target, by_float)
            yield f"{which}, {words}", float_quality, measured, result.integer_flops


def _ways(target: Target, rounding_iterations: int, float_flops: float) -> Iterator[tuple[str, QuantizationSettings]]:
    """From rounding alone to everything, then the other calibrations and the choice of layers."""
    everything = QuantizationSettings(target=target, budget=NO_BUDGET)
    plain = replace(everything, equalize=False, correct_biases=False)
    for calibration in CALIBRATIONS:
        yield f"{calibration} alone", replace(plain, calibration=calibration)
    yield "mse, rescaled", replace(plain, equalize=True)
    yield "mse, biases corrected", replace(plain, correct_biases=True)
    for calibration in CALIBRATIONS:
        yield f"{calibration}, rescaled, biases corrected", replace(everything, calibration=calibration)
    if rounding_iterations:
        learned = replace(everything, rounding_iterations=rounding_iterations)
        yield f"the same as mse, {rounding_iterations} steps of learned rounding", learned
    if float_flops:
        spent = replace(everything, budget=QualityBudget(None, largest_float_flops=float_flops))
        yield f"the same as mse, up to {float_flops:.0%} of the FLOPs in float", spent
