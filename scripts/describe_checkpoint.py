"""What a file of weights is: python -m scripts.describe_checkpoint FILE."""

from pathlib import Path

from system import command_line
from system.paths import check_there


def main(file: Path, /) -> None:
    """Says what a file is, ours or foreign: network, architecture, parameters, FLOPs, recipe, data, figures, licence.

    Nothing in the file is executed, and nothing is written.

    Args:
        file: Release file, Lightning checkpoint or run's folder, public GPEN or StyleGAN2 checkpoint, discriminator, or
            exported model.
    """
    check_there(file, "checkpoint")
    from export.formats.description import describe_checkpoint

    for name, text in describe_checkpoint(file).items():
        first, *more = text.split("\n")
        command_line.print_names(f"{name}: {first}".rstrip(), *(f"    {line}" for line in more))


if __name__ == "__main__":
    command_line.run(main)
