"""Enlarged photographs of another program, into which restored faces are put."""

from pathlib import Path, PurePosixPath

from data.faces.files import open_faces
from photographs.restoration.stored import StoredPhoto, read_stored

_SAME_SHAPE = 0.01
"""By how much the proportions of a photograph and of its enlargement may differ."""


class Backgrounds:
    """Enlarged photographs by the names of the originals.

    Args:
        path: Folder, or one file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it holds no picture.
    """

    def __init__(self, path: Path) -> None:
        self._files = open_faces(path)
        self._by_name = {
            str(PurePosixPath(name).with_suffix("")): index for index, name in enumerate(self._files.names)
        }
        self._is_one_file = path.is_file()

    def find(self, name: str, photo: StoredPhoto) -> tuple[StoredPhoto, float]:
        """Gives the enlargement of a photograph.

        Args:
            name: Of the photograph; the suffix may differ.
            photo: The photograph.

        Returns:
            The enlargement and how much larger it is.

        Raises:
            ValueError: If there is none, it cannot be read, or shows something of another shape.
        """
        index = 0 if self._is_one_file else self._by_name.get(str(PurePosixPath(name).with_suffix("")))
        if index is None:
            raise ValueError(f"there is no background for {name} in {self._files.path}; enlarge it too")
        enlarged = read_stored(self._files.content(index))
        height, width = photo.pixels.shape[:2]
        vertical, horizontal = enlarged.pixels.shape[0] / height, enlarged.pixels.shape[1] / width
        if abs(vertical / horizontal - 1) > _SAME_SHAPE + 1 / min(height, width):
            raise ValueError(
                f"the background of {name} must have its proportions, {width} x {height}, got "
                f"{enlarged.pixels.shape[1]} x {enlarged.pixels.shape[0]}; enlarge the whole photograph"
            )
        return enlarged, (vertical + horizontal) / 2
