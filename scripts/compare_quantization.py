"""What each remedy and each way of calibration is worth in int8, for a checkpoint and for uneven copies of it."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

from data.degradation.presets import load_preset
from data.faces.files import open_faces
from evaluation.pairs import PairBatch, degraded_pairs
from export.bundle.face_sets import join_pairs
from export.int8.integer_simulation import Target
from export.int8.quantization import QuantizationSettings, quantize
from export.int8.rescaling import random_factors, rescaled
from export.static.layer_map import map_layers
from export.static.network import StaticGPEN
from models import load_generator
from models.quantization.clipping import CALIBRATIONS
from system import command_line


def main() -> None:
    """Reads the arguments and prints a table, line by line as it is measured."""
    arguments = _parser().parse_args()
    generator = load_generator(arguments.checkpoint)
    network = StaticGPEN(generator, "transposed" if arguments.target == "vacc" else "pixel_shuffle")
    resolution = generator.architecture.resolution
    calibration = _pairs(arguments.calibration_faces, arguments, arguments.num_calibration, resolution, seed=1)
    evaluation = _pairs(arguments.faces, arguments, arguments.num_faces, resolution, seed=0)
    layers = map_layers(network)
    print("network, quantized: drop in PSNR, drop in SSIM, PSNR to float, FLOPs in int8")
    for deviation in arguments.imbalance:
        candidate = rescaled(network, random_factors(network, deviation)) if deviation else network
        for words, settings in _variants(arguments):
            result = quantize(candidate, layers, calibration, evaluation, settings, lambda _: None)
            by_float, by_int8 = result.by_float, result.by_int8
            print(
                f"{f'uneven, σ = {deviation:g}' if deviation else 'as trained'}, {words}: "
                f"{by_float.psnr - by_int8.psnr:.4f} dB, {by_float.ssim - by_int8.ssim:.5f}, "
                f"{by_int8.psnr_to_float:.2f} dB, {result.integer_flops:.1%}",
                flush=True,
            )
    print(f"float: {by_float.psnr:.3f} dB, SSIM {by_float.ssim:.4f}, on {len(evaluation.names)} faces")


def _variants(arguments: argparse.Namespace) -> Iterator[tuple[str, QuantizationSettings]]:
    """From rounding alone to everything, then the other calibrations and the choice of layers."""
    everything = QuantizationSettings(target=arguments.target, largest_drop_db=None, largest_float_flops=0.0)
    plain = replace(everything, equalize=False, correct_biases=False)
    for calibration in CALIBRATIONS:
        yield f"{calibration} alone", replace(plain, calibration=calibration)
    yield "mse, rescaled", replace(plain, equalize=True)
    yield "mse, biases corrected", replace(plain, correct_biases=True)
    for calibration in CALIBRATIONS:
        yield f"{calibration}, rescaled, biases corrected", replace(everything, calibration=calibration)
    if arguments.rounding_iterations:
        learned = replace(everything, rounding_iterations=arguments.rounding_iterations)
        yield f"the same as mse, {arguments.rounding_iterations} steps of learned rounding", learned
    if arguments.float_flops:
        chosen = replace(everything, largest_float_flops=arguments.float_flops)
        yield f"the same as mse, up to {arguments.float_flops:.0%} of the FLOPs in float", chosen


def _pairs(folder: Path, arguments: argparse.Namespace, number: int, resolution: int, seed: int) -> PairBatch:
    """The first faces of a folder by name, degraded."""
    ranges = load_preset(arguments.degradation)
    return join_pairs(list(degraded_pairs(open_faces(folder), resolution, ranges, seed, max_faces=number)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.compare_quantization", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="anything that python -m export reads")
    add("--calibration-faces", type=Path, required=True, help="clean training faces, degraded to calibrate on")
    add("--faces", type=Path, required=True, help="clean faces of other people to measure on")
    add("--degradation", default="released", help="preset or YAML file (default: %(default)s)")
    add("--num-calibration", type=int, default=96, help="faces to calibrate on (default: %(default)s)")
    add("--num-faces", type=int, default=100, help="faces to measure on (default: %(default)s)")
    add("--target", choices=get_args(Target), default="vacc", help="whose arithmetic (default: %(default)s)")
    add(
        "--imbalance",
        type=float,
        nargs="+",
        default=[0.0, 1.0],
        help="σ of the log-normal factors that make channels uneven without changing the function (default: 0 1)",
    )
    add("--rounding-iterations", type=int, default=0, help="also learn to round, with so many steps per convolution")
    add("--float-flops", type=float, default=0.0, help="also choose layers for this share of the FLOPs in float")
    return parser


if __name__ == "__main__":
    command_line.run(main)
