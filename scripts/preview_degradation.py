"""Shows what a degradation preset does: python -m scripts.preview_degradation --faces FOLDER --output preview.png."""

from pathlib import Path

from data.faces.files import Pictures, print_left_out
from system import command_line
from system.atomic_file import write_atomically
from system.paths import refuse_existing
from system.wording import counted


def main(
    faces: Path,
    output: Path,
    pictures: Pictures,
    degradation: str = "released",
    resolution: int = 512,
    num_faces: int = 8,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Draws faces over their degraded versions, the sampled parameters below each pair.

    Lengths are in pixels of the shown resolution. Face k gets what image k of a training run with this seed would get.

    Args:
        faces: Folder (recursive), uncompressed zip or tar, LMDB or list of faces.
        output: PNG file to write.
        degradation: Preset (a file of configs/degradations) or path of a YAML file like them.
        resolution: Pixels the faces are resized to.
        num_faces: How many faces, the first by name.
        seed: Of the degradation.
        overwrite: Replace an existing file.
    """
    if num_faces < 1:
        raise ValueError(f"--num_faces must be at least 1, got {num_faces}")
    if output.suffix.lower() != ".png":
        raise ValueError(f"--output must be a file that ends in .png, got {output}")
    refuse_existing(output, overwrite)
    shown = pictures.open(faces).take(slice(num_faces))
    print_left_out(shown)
    from evaluation.reports.degradation_preview import preview_degradation

    write_atomically(output, preview_degradation(shown, degradation, resolution, seed))
    command_line.print_names(f"{counted(len(shown), 'face')} with the degradation {degradation} in {output}")


if __name__ == "__main__":
    command_line.run(main)
