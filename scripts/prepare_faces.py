"""Makes a set of aligned faces out of photographs: python -m scripts.prepare_faces PHOTOS --output FACES."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from data.faces.files import open_faces, print_left_out
from photographs.options import Selection, Split
from system import command_line
from system.atomic_file import printable_line, write_atomically


def main(photos: Path, /, output: Path, selection: Selection, split: Split, resolution: int = 512) -> int:
    """Finds the faces of photographs, aligns them as FFHQ's are, rejects the bad ones and divides the others.

    Faces lie in train/ and val/ of the output; manifest.jsonl names each face, kept or rejected and why, summary.json
    counts them and contact_sheet.png shows them. It works in one process; the same command continues where it was
    interrupted. Exit code 0: done, photographs that cannot be read are named and skipped; 1: no face was kept; 2: a
    wrong option, file or folder.

    Args:
        photos: Photograph, folder (recursive) or uncompressed zip of photographs.
        output: Folder for the faces, outside of the photographs.
        resolution: Width and height of the faces in pixels.
    """
    from inference.folders import check_output_folder
    from photographs.preparation.manifest import MANIFEST_NAME, Manifest, counts, told
    from photographs.preparation.preparation import FacePreparer, write_contact_sheet

    if not 16 <= resolution <= 4096:
        raise ValueError(f"--resolution must be from 16 to 4096, got {resolution}")
    selection.check()
    split.check()
    check_output_folder(output, True, photos)
    if output.is_dir() and any(output.iterdir()) and not (output / MANIFEST_NAME).is_file():
        raise ValueError(f"{output} holds files of something else; choose another output")
    files = open_faces(photos)
    print_left_out(files)
    settings = {"photos": str(files.path), "resolution": resolution, **asdict(selection), **asdict(split)}
    manifest = Manifest(output, settings)
    with command_line.progress_bar("preparing", len(files)) as show:
        lines = FacePreparer(resolution, selection, split, output, manifest).run(files, on_progress=show)
    numbers = counts(lines)
    write_atomically(output / "summary.json", json.dumps({"settings": settings, **numbers}, indent=2) + "\n")
    kept = [face.kept_as for line in lines for face in line.kept()]
    sheet = write_contact_sheet(output, kept)
    for line in lines:
        if line.problem:
            print(printable_line(f"skipped: {line.source}: {line.problem}"), file=sys.stderr)
    print("\n".join(told(numbers)))
    command_line.print_names(
        f"{manifest.file} names every face" + ("" if sheet is None else f", {sheet} shows kept ones")
    )
    return 0 if kept else 1


if __name__ == "__main__":
    command_line.run(main)
