"""What each remedy and each way of calibration is worth in int8: one network quantized in many ways."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from evaluation.pairs import PairBatch
from export.int8.quantization import QuantizationSettings, quantize
from export.int8.rescaling import random_factors, rescale
from export.int8.simulation import Quality, Target, quality, simulate
from export.static.graph import map_layers
from export.static.network import StaticGPEN
from models.quantization.clipping import CALIBRATIONS
from system.live_progress import say_nothing


def comparisons(
    network: StaticGPEN,
    calibration: PairBatch,
    evaluation: PairBatch,
    target: Target,
    imbalance: Sequence[float],
    rounding_iterations: int = 0,
    float_flops: float = 0.0,
) -> Iterator[tuple[str, Quality, Quality, float]]:
    """Quantizes a network, and copies of it whose channels are uneven, in every way.

    Args:
        network: The static form.
        calibration: Faces to calibrate on.
        evaluation: Other faces to measure on.
        target: Whose arithmetic.
        imbalance: σ of the log-normal factors that make channels uneven without changing the function; 0 for none.
        rounding_iterations: Also learn to round, with so many steps per convolution; 0 does not.
        float_flops: Also choose layers for this share of the FLOPs in float; 0 does not.

    Yields:
        What was done in words, how well float and int8 restore, and the share of FLOPs in int8.
    """
    layers = map_layers(network)
    for deviation in imbalance:
        candidate = rescale(network, random_factors(network, deviation)) if deviation else network
        by_float = simulate(candidate, {}, evaluation.degraded)
        float_quality = quality(by_float, evaluation.target, by_float)
        which = f"uneven, σ = {deviation:g}" if deviation else "as trained"
        for words, settings in _ways(target, rounding_iterations, float_flops):
            result = quantize(candidate, layers, calibration, settings, say_nothing)
            measured = quality(result.simulate(evaluation.degraded), evaluation.target, by_float)
            yield f"{which}, {words}", float_quality, measured, result.integer_flops


def _ways(target: Target, rounding_iterations: int, float_flops: float) -> Iterator[tuple[str, QuantizationSettings]]:
    """From rounding alone to everything, then the other calibrations and the choice of layers."""
    everything = QuantizationSettings(target=target, largest_drop_db=None, largest_float_flops=0.0)
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
        yield (
            f"the same as mse, up to {float_flops:.0%} of the FLOPs in float",
            replace(everything, largest_float_flops=float_flops),
        )
