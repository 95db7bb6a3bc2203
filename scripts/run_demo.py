"""The whole path at 64 pixels on a CPU: prior, embedding, fine-tuning, evaluation, export; `make demo` calls it."""

from pathlib import Path

from data.faces.files import Pictures, check_faces_exist
from system import command_line


def main(
    pictures: Pictures,
    faces: Path | None = None,
    output: Path = Path("runs/demo"),
    minutes: float | None = None,
    prior_images: int | None = None,
    restoration_images: int | None = None,
) -> None:
    """Trains a prior for some minutes, embeds the shipped prior into GPEN, fine-tunes it, measures and exports it.

    It measures this machine first and trains as long as --minutes allow. The same command continues an interrupted
    demo with the same numbers.

    Args:
        faces: Folder of aligned photographs; null for faces that the shipped prior draws.
        output: Folder for runs, bundle and report.html.
        minutes: All of it may take so many; null for 12, or 25 where there is one core.
        prior_images: Length of stage 1; null for what fits.
        restoration_images: Length of stage 2; null for what fits.
    """
    check_faces_exist(faces)
    from demo.steps import Demo

    Demo(output, faces, minutes, prior_images, restoration_images, pictures).run()


if __name__ == "__main__":
    command_line.run(main)
