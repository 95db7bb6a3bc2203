"""What each remedy and each way of calibration is worth in int8, for a checkpoint and for uneven copies of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.faces.files import Pictures, check_faces_exist
from system import command_line
from system.paths import check_there
from system.wording import counted

if TYPE_CHECKING:
    from evaluation.pairs import PairBatch


@dataclass(frozen=True)
class Faces:
    """Faces to calibrate and to measure on."""

    calibration_faces: Path
    """Clean training faces, degraded to calibrate on."""
    faces: Path
    """Clean faces of other people to measure on."""
    degradation: str = "released"
    """Preset or YAML file."""
    num_calibration: int = 96
    """How many faces to calibrate on."""
    num_faces: int = 100
    """How many faces to measure on."""
    pictures: Pictures = Pictures()


def main(
    checkpoint: Path,
    sets: Faces,
    target: Literal["vacc", "onnxruntime"] = "vacc",
    imbalance: tuple[float, ...] = (0.0, 1.0),
    rounding_iterations: int = 0,
    float_flops: float = 0.0,
) -> None:
    """Prints what each remedy and each way of calibration is worth in int8, line by line as it is measured.

    Args:
        checkpoint: Anything that python -m export reads.
        target: Whose arithmetic is simulated.
        imbalance: σ of the log-normal factors that make channels uneven without changing the function.
        rounding_iterations: Also learn to round, with so many steps per convolution.
        float_flops: Also choose layers for this share of the FLOPs in float.
    """
    check_there(checkpoint, "checkpoint")
    check_faces_exist(sets.calibration_faces, sets.faces)
    from export.int8.quantization import comparisons
    from export.static.network import StaticGPEN
    from models import load_generator

    generator = load_generator(checkpoint)
    network = StaticGPEN(generator, "transposed" if target == "vacc" else "pixel_shuffle")
    resolution = generator.architecture.resolution
    calibration = _pairs(sets, sets.calibration_faces, sets.num_calibration, resolution, seed=1)
    evaluation = _pairs(sets, sets.faces, sets.num_faces, resolution, seed=0)
    print("network, quantized: drop in PSNR, drop in SSIM, PSNR to float, FLOPs in int8")
    for words, by_float, by_int8, integer_flops in comparisons(
        network, calibration, evaluation, target, imbalance, rounding_iterations, float_flops
    ):
        print(
            f"{words}: {by_float.psnr - by_int8.psnr:.4f} dB, {by_float.ssim - by_int8.ssim:.5f}, "
            f"{by_int8.psnr_to_float:.2f} dB, {integer_flops:.1%}",
            flush=True,
        )
    print(f"float: {by_float.psnr:.3f} dB, SSIM {by_float.ssim:.4f}, on {counted(len(evaluation.names), 'face')}")


def _pairs(sets: Faces, folder: Path, number: int, resolution: int, seed: int) -> "PairBatch":
    """The first faces of a folder by name, degraded."""
    from data.faces.files import print_left_out
    from evaluation.pairs import FacePairs

    faces = sets.pictures.open(folder)
    print_left_out(faces)
    return FacePairs(faces, resolution, sets.degradation, seed, max_faces=number).joined()


if __name__ == "__main__":
    command_line.run(main)
