"""Turns finished runs into the release files under weights/: python -m scripts.publish_weights --help."""

from data.faces.files import check_faces_exist
from studies.request import Release
from system import command_line
from system.paths import check_there


def main(release: Release, overwrite: bool = False) -> None:
    """Writes gpen_R.safetensors (averaged restorer) and prior_R.safetensors (averaged prior and its discriminator).

    Beside them README.md with their model cards, measured on faces that training did not see, and pictures of what they
    draw. Without --prior it is the restorer alone, such as one of another size, and its card is gpen_R.md.

    Args:
        overwrite: Replace the release that is in --output, as it is in weights/.
    """
    if release.prior is not None:
        check_there(release.prior, "run or release file")
    check_there(release.restoration_run, "run or checkpoint")
    for other in release.interpolated_with:
        check_there(other, "run or checkpoint")
    check_faces_exist(release.faces)
    from studies.release import publish

    publish(release, overwrite)


if __name__ == "__main__":
    command_line.run(main)
