"""Restores the faces of photographs: python -m scripts.restore_photos PHOTO_OR_FOLDER --output OUT."""

import sys
from dataclasses import asdict
from pathlib import Path

from data.faces.files import Pictures, check_faces_exist, print_left_out
from inference.options import RestorerOptions
from photographs.options import Choice, Pasting
from system import command_line
from system.paths import check_output_folder, check_there


def main(
    photos: Path,
    /,
    output: Path,
    restorer: RestorerOptions,
    choice: Choice,
    pasting: Pasting,
    pictures: Pictures,
    overwrite: bool = False,
) -> int:
    """Finds the faces of photographs, restores them and puts them back.

    Every photograph is written under its own name with its size, format, EXIF and colour profile, transparent where it
    was; one in which no face is restored is copied. Faces that are too small, or better than the model, are left alone.
    The same command continues where it was interrupted. Exit code 0: all photographs were written; 1: some could not
    be, they are listed at the end; 2: a wrong option, file or folder.

    Args:
        photos: Photograph, folder (recursive) or uncompressed zip of photographs.
        output: Folder for the results, outside of the photographs.
        overwrite: Begin anew in a folder that holds files, replacing equal names.
    """
    check_there(restorer.checkpoint, "checkpoint or exported model")
    check_faces_exist(photos, pasting.background)
    from photographs.restoration.record import RECORD_NAME, Record, summary

    goes_on = not overwrite and (output / RECORD_NAME).is_file()
    check_output_folder(output, overwrite or goes_on, photos)
    files = pictures.open(photos)
    print_left_out(files)
    from inference.restorers import file_digest
    from photographs.restoration.restoration import PhotoRestorer

    network = restorer.open()
    if overwrite:
        (output / RECORD_NAME).unlink(missing_ok=True)
    settings = {"checkpoint": file_digest(restorer.checkpoint), **asdict(choice), **asdict(pasting)}
    settings |= asdict(pictures)
    record = Record(output, {name: str(value) for name, value in settings.items()})
    with command_line.progress_bar("restoring", len(files)) as show:
        photo_restorer = PhotoRestorer(network, restorer.batch_size, choice, pasting, output, record)
        records = list(photo_restorer.run(files, on_progress=show))
    command_line.print_names(*summary(records), f"in {output}; {output / RECORD_NAME} names every face")
    failed = [photograph for photograph in records if photograph.problem]
    for photograph in failed:
        command_line.print_names(f"not restored: {photograph.photo}: {photograph.problem}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    command_line.run(main)
