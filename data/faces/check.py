"""What is in a set of faces: every file decoded once, with its size and mode, or the reason why it cannot be used."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from data.faces.decoding import decode
from data.faces.files import FaceFiles


class CheckedFace(NamedTuple):
    """What was found out about one file."""

    name: str
    """Below the folder or in the zip."""
    problem: str | None
    """Why it cannot be used, None where it can."""
    format: str = ""
    """Such as JPEG."""
    mode: str = ""
    """As stored, such as RGB, CMYK, P (palette) or I;16 (16-bit grey)."""
    size_pixels: tuple[int, int] = (0, 0)
    """Width and height, upright."""
    digest: str = ""
    """SHA-256 of the decoded pixels, hexadecimal."""


def check_faces(faces: FaceFiles, num_threads: int = 4) -> Iterator[CheckedFace]:
    """Decodes every file of a set.

    Args:
        faces: The set.
        num_threads: Files decoded at once; Pillow's decoders run side by side.

    Yields:
        One result for each file, in the order of the names.

    Raises:
        FileNotFoundError: If the whole set is gone.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        yield from pool.map(lambda index: _check(faces, index), range(len(faces)))


def _check(faces: FaceFiles, index: int) -> CheckedFace:
    name = faces.names[index]
    try:
        photograph = decode(faces.content(index))
    except ValueError as error:
        return CheckedFace(name, " ".join(str(error).split()))
    image = photograph.image
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
    return CheckedFace(name, None, photograph.format, photograph.mode, image.size, digest)


def same_pictures(checked: list[CheckedFace]) -> list[list[str]]:
    """Names of files that show the same pixels, group by group, whatever their formats."""
    groups: dict[str, list[str]] = {}
    for one in checked:
        if one.problem is None:
            groups.setdefault(one.digest, []).append(one.name)
    return [names for names in groups.values() if len(names) > 1]
