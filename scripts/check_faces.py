"""Decodes every face of a set before a run does: python -m scripts.check_faces FOLDER."""

from collections import Counter
from pathlib import Path

from data.faces.broken import CheckedFace, check_faces, same_pictures
from data.faces.decoding import Color
from data.faces.files import Pictures, fingerprint, print_left_out
from system import command_line
from system.wording import counted

MOST_LISTED = 20


def main(faces: Path, /, pictures: Pictures, resolution: int = 512, threads: int = 4, all: bool = False) -> int:
    """Decodes every face of a folder or zip before a run does.

    Reports files that are left out, sizes, formats, modes and colour profiles, faces smaller than a resolution,
    pictures that are there twice, and files that cannot be used. Changes nothing. Exit code 0: all can be used; 1: some
    cannot, they are listed; 2: a wrong option, file or folder.

    Args:
        faces: Folder (recursive), uncompressed zip or tar, LMDB or list of aligned faces.
        resolution: Faces smaller than this are counted, in pixels.
        threads: How many files are decoded at once.
        all: List every file, not the first 20 of a kind.
    """
    if threads < 1 or resolution < 1:
        raise ValueError(f"--threads and --resolution must be at least 1, got {threads} and {resolution}")
    files = pictures.open(faces)
    print_left_out(files)
    with command_line.progress_bar("decoding", len(files)) as show:
        checked = []
        for face in check_faces(files, threads):
            checked.append(face)
            show(len(checked))
    print_summary(checked, resolution, len(files) if all else MOST_LISTED, files.background)
    print(f"fingerprint {fingerprint(files)}")
    return int(any(face.problem for face in checked))


def print_summary(checked: list[CheckedFace], resolution: int, most_listed: int, background: Color) -> None:
    """Prints counts, and the first `most_listed` names of each kind."""
    usable = [face for face in checked if face.problem is None]
    print(f"{counted(len(checked), 'file')}, {len(usable)} can be used")
    for title, values in (
        ("formats", Counter(face.format for face in usable)),
        ("modes", Counter(face.mode for face in usable)),
        ("colour profiles", Counter(face.profile for face in usable if face.profile)),
        ("sizes in pixels", Counter("x".join(map(str, face.size_pixels)) for face in usable)),
    ):
        common = ", ".join(f"{value} ({number})" for value, number in values.most_common(8))
        print(f"{title}: {common or 'none'}{f' and {len(values) - 8} more' if len(values) > 8 else ''}")
    num_transparent = sum(face.is_transparent for face in usable)
    print(f"transparent, laid over {background} (RGB): {num_transparent}")
    small = [face.name for face in usable if min(face.size_pixels) < resolution]
    print_list(f"smaller than {resolution} pixels", small, most_listed)
    print_list("there more than once", [" = ".join(names) for names in same_pictures(usable)], most_listed)
    print_list("cannot be used", [f"{face.name}: {face.problem}" for face in checked if face.problem], most_listed)


def print_list(title: str, lines: list[str], most_listed: int) -> None:
    """Prints a count and the first lines."""
    print(f"{title}: {len(lines)}")
    for line in lines[:most_listed]:
        command_line.print_names(f"    {line}")
    if len(lines) > most_listed:
        print(f"    and {len(lines) - most_listed} more (--all lists them)")


if __name__ == "__main__":
    command_line.run(main)
