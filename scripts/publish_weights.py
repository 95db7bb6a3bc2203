"""Turns finished runs into the release files under weights/: python -m scripts.publish_weights --help."""

from pathlib import Path

from system import command_line


def main(
    prior: Path,
    restoration_run: Path,
    faces: Path,
    data: str,
    degradations: tuple[str, ...] = ("small", "released", "varied"),
    output: Path = Path("weights"),
    overwrite: bool = False,
) -> None:
    """Writes prior_R.safetensors (averaged prior and discriminator) and gpen_R.safetensors (averaged restorer).

    Both in half precision, with README.md that holds their model cards, measured on faces that training did not see,
    and pictures of what they draw.

    Args:
        prior: Folder of a stage 1 run, or a release file that stays as it is.
        restoration_run: Folder of a stage 2 run.
        faces: Folder of held-out faces for the figures.
        data: What the training faces were and their terms, one sentence.
        degradations: Presets to measure under.
        output: Folder of the release.
        overwrite: Replace the release that is in --output, as it is in weights/.
    """
    from studies.release import Release, publish

    publish(Release(prior, restoration_run, faces, data, degradations, output), overwrite)


if __name__ == "__main__":
    command_line.run(main)
