"""Compares finished runs and exported models on the same faces: python -m scripts.compare_runs A B … --faces FOLDER."""

from pathlib import Path

from data.faces.files import check_faces_exist
from studies.request import MeasurementSettings
from system import command_line


def main(
    models: tuple[str, ...],
    /,
    faces: Path,
    settings: MeasurementSettings,
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
        faces: Folder (recursive), uncompressed zip or tar, LMDB or list of clean aligned faces.
        output: Folder for the report.
        reference: Variant from which differences are taken; null for the first.
        overwrite: Replace an earlier report; what it measured is used again.
        without_photographs: Leave out degraded and target faces, to publish the report.
    """
    check_faces_exist(faces)
    from studies.commands.model_comparison import compare_models

    compare_models(list(models), faces, settings, reference, output, overwrite, without_photographs)


if __name__ == "__main__":
    command_line.run(main)
