"""Compares finished runs and exported models on the same faces: python -m scripts.compare_runs A B … --faces FOLDER."""

from dataclasses import dataclass
from pathlib import Path

from evaluation.metrics.forms import MetricName
from system import command_line


@dataclass(frozen=True)
class Conditions:
    """Faces and figures."""

    faces: Path
    """Folder (recursive), uncompressed zip or tar, LMDB or list of clean aligned faces."""
    degradations: tuple[str, ...] = ("released",)
    """Presets, YAML files, or folders of stored degraded versions of the faces."""
    names: tuple[str, ...] = ()
    """How names of stored degraded versions differ from those of the faces, such as '{}x4', or of both, such as
    '{}_lq' '{}_hq'."""
    seed: int = 0
    """Seed of the degradation."""
    max_faces: int | None = None
    """Only the first faces by name; null for all."""
    metrics: tuple[MetricName, ...] = ("psnr", "ssim", "lpips", "identity")
    """As for scripts.evaluate."""


def main(
    models: tuple[str, ...],
    /,
    conditions: Conditions,
    output: Path,
    reference: str | None = None,
    overwrite: bool = False,
    without_photographs: bool = False,
) -> None:
    """Measures runs and models on the same degraded faces and writes a report.

    Writes report.html, report.md, report.csv, differences.csv and the resolved configurations. The same command
    continues an interrupted comparison.

    Args:
        models: Each [NAME=]PATH[,PATH…]: folder of a run (its last checkpoint), checkpoint, release file, public
            checkpoint, TorchScript or ONNX file; several paths with commas are one variant trained with several seeds.
        output: Folder for the report.
        reference: Variant from which differences are taken; null for the first.
        overwrite: Replace an earlier report; what it measured is used again.
        without_photographs: Leave out degraded and target faces, to publish the report.
    """
    from studies.commands.model_comparison import compare_models
    from studies.measurement import MeasurementSettings

    settings = MeasurementSettings(
        conditions.degradations, conditions.seed, conditions.metrics, conditions.max_faces, conditions.names
    )
    compare_models(list(models), conditions.faces, settings, reference, output, overwrite, without_photographs)


if __name__ == "__main__":
    command_line.run(main)
