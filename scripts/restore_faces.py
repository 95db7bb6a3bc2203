"""Restores aligned faces: python -m scripts.restore_faces --checkpoint X --input FOLDER --output FOLDER."""

import sys
from pathlib import Path
from typing import Literal

from data.faces.files import Pictures, print_left_out
from inference.options import RestorerOptions
from system import command_line
from system.paths import check_output_folder, check_there
from system.wording import counted


def main(
    input: Path,
    output: Path,
    restorer: RestorerOptions,
    pictures: Pictures,
    side_by_side: bool = False,
    identity_guard: Literal["mark", "blend"] | None = None,
    crop: bool = False,
    overwrite: bool = False,
) -> int:
    """Restores aligned faces and writes them as PNG of the model's size, sub folders and names kept.

    Faces are resized to the model's resolution, and the command says to how many that happened and what it costs.
    Pictures that are far from square are no aligned faces and are left out: scripts.restore_photos takes photographs.
    Exit code 0: all were restored; 1: some could not be, they are listed at the end and the others are written; 2: a
    wrong option, file or folder.

    Args:
        input: Folder (recursive), uncompressed zip or tar, LMDB or list of aligned faces, or one picture.
        output: Folder for the restored faces, outside of --input.
        side_by_side: Also write each given face beside the restored one, into OUTPUT/side_by_side.
        identity_guard: Compare each restored face with the given one by dlib's network and write OUTPUT/identity.csv;
            blend also takes back as much of a restoration as is needed for the identity to be kept.
        crop: Take the central square of pictures that are far from square, too.
        overwrite: Write into a folder that holds files, replacing equal names.
    """
    check_there(restorer.checkpoint, "checkpoint or exported model")
    check_output_folder(output, overwrite, input)
    faces = pictures.open(input)
    print_left_out(faces)
    from inference.folders import SIDE_BY_SIDE, SizeChanges, restore_folder

    network = restorer.open()
    size = network.resolution
    changes = SizeChanges(size, crop=crop)
    guard = None
    if identity_guard:
        from evaluation.identity_guard import IdentityGuard

        guard = IdentityGuard(network, identity_guard)
    with command_line.progress_bar("restoring", len(faces)) as show:
        failed = restore_folder(guard or network, faces, size, output, restorer.batch_size, show, changes, side_by_side)
    for sentence in changes.sentences():
        command_line.print_names(f"warning: {sentence}", file=sys.stderr)
    pairs = f", beside the given ones in {output / SIDE_BY_SIDE}" if side_by_side else ""
    restored = [name for name in faces.names if name not in failed]
    command_line.print_names(f"{counted(len(restored), 'face')} restored at {size}x{size} pixels into {output}{pairs}")
    if guard is not None:
        from evaluation.reports.tables import write_guarded

        command_line.print_names(write_guarded(output / "identity.csv", restored, guard.faces))
    for reason in failed.values():
        command_line.print_names(f"not restored: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command_line.run(main)
