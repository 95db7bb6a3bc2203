"""Where face photographs come from: a folder or an uncompressed zip, read as RGB images."""

import hashlib
import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 80_000_000
"""Larger images are refused before decoding: about 240 MB as RGB, more than any camera face crop needs."""

# Only formats decoded inside the process: Pillow would hand a disguised EPS to Ghostscript.
_PIL_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


class FaceFiles:
    """Photographs in a fixed, machine-independent order; made by `open_faces`.

    Can be pickled and used after a fork: a zip is opened once in each process that reads from it.

    Args:
        path: Folder or zip file.
        names: Names below it with `/` between their parts, sorted.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path = path
        self.names = names
        self._archive: zipfile.ZipFile | None = None
        self._archive_process = -1

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "names": self.names, "_archive": None, "_archive_process": -1}

    def read(self, index: int) -> Image.Image:
        """Reads one photograph at its full size.

        Args:
            index: Position in `names`.

        Returns:
            8-bit RGB, turned upright as its EXIF orientation says. Transparent images are laid over black, 16-bit grey
            is scaled to 8 bits, CMYK is converted without its colour profile (profiles are ignored throughout).

        Raises:
            ValueError: If the file cannot be decoded, is too large or has a mode without a known range.
        """
        name = self.names[index]
        source = f"{self.path}/{name}"
        try:
            content = self._bytes(name)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"cannot read {source}: {error}; check the file or remove it") from error
        return _decode(content, source)

    def sizes_bytes(self) -> list[int]:
        """Sizes of the files in the order of `names`, without reading their contents."""
        if self.path.is_dir():
            return [(self.path / name).stat().st_size for name in self.names]
        archive = self._open_archive()
        return [archive.getinfo(name).file_size for name in self.names]

    def _bytes(self, name: str) -> bytes:
        if self.path.is_dir():
            return (self.path / name).read_bytes()
        return self._open_archive().read(name)

    def _open_archive(self) -> zipfile.ZipFile:
        """The zip as opened by this process: a handle shared after a fork would share its file position too."""
        if self._archive is None or self._archive_process != os.getpid():
            self._archive, self._archive_process = zipfile.ZipFile(self.path), os.getpid()
        return self._archive


def open_faces(path: Path | str) -> FaceFiles:
    """Lists the photographs below a folder or inside a zip in NVlabs' dataset layout.

    Args:
        path: Folder (searched recursively, links followed, hidden files skipped) or an uncompressed zip file with
            members such as `00000/img00000000.png`; other members, such as `dataset.json`, are ignored.

    Returns:
        The photographs (jpg, jpeg, png, webp, bmp, tif, tiff in any case), sorted by their names with `/`.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If there is no photograph, or the file is no zip, is compressed or has members outside itself.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"faces must be an existing folder or zip file, got {path}; check the path")
    names = sorted(_names_in_folder(path) if path.is_dir() else _names_in_zip(path))
    if not names:
        wanted = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise ValueError(f"{path} must hold at least one face image, found none; put {wanted} files there")
    return FaceFiles(path.resolve(), names)


def hold_out(faces: FaceFiles, most: int) -> tuple[FaceFiles, FaceFiles]:
    """Divides a set into faces to train on and the last ones by name, which are held out.

    Args:
        faces: All photographs.
        most: Hold out so many, but at most a tenth of a small set and at least one.

    Returns:
        Faces to train on and held-out faces.

    Raises:
        ValueError: If there are fewer than two photographs.
    """
    if len(faces) < 2:
        raise ValueError(f"{faces.path} must hold at least two faces, one of them for validation; add more")
    number = max(1, min(most, len(faces) // 10))
    return FaceFiles(faces.path, faces.names[:-number]), FaceFiles(faces.path, faces.names[-number:])


def fingerprint(faces: FaceFiles) -> str:
    """Identifies a set of photographs in reports by the names and sizes of its files, not by their pixels.

    Args:
        faces: The photographs.

    Returns:
        SHA-256 as 64 hexadecimal digits; equal for a folder and a stored zip of it.
    """
    digest = hashlib.sha256()
    for name, size_bytes in zip(faces.names, faces.sizes_bytes(), strict=True):
        digest.update(f"{name}\0{size_bytes}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_image(name: PurePosixPath) -> bool:
    """Whether a name is an image and no part of it is hidden or left there by macOS."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
    return name.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _names_in_folder(folder: Path) -> Iterator[str]:
    """Names of the images below a folder; a linked folder that was already visited is not entered again."""
    visited: set[str] = set()
    for current, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        folders.sort()
        real = os.path.realpath(current)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        for file in files:
            name = PurePosixPath((Path(current) / file).relative_to(folder).as_posix())
            if _is_image(name):
                yield str(name)


def _raise(error: OSError) -> None:
    """Makes `os.walk` stop at a folder it may not list instead of leaving it out."""
    raise error


def _names_in_zip(path: Path) -> Iterator[str]:
    """Names of the images in a zip whose members are checked first."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"faces must be a folder or an uncompressed zip file, got {path}: {error}") from error
    for member in members:
        name = PurePosixPath(member.filename)
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or is_link:
            raise ValueError(f"members of {path} must lie inside it, got {member.filename!r}; make the zip again")
        if member.is_dir() or not _is_image(name):
            continue
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ValueError(
                f"members of {path} must be stored without compression or password, {member.filename!r} is not; "
                "make the zip again with `zip -0 -r`"
            )
        yield member.filename


def _decode(content: bytes, source: str) -> Image.Image:
    """Decodes to upright RGB; the size in the header is checked before any pixel is decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=_PIL_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"it has {width} x {height} pixels, more than the {MAX_PIXELS} allowed")
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright)
    except _DECODE_ERRORS as error:
        raise ValueError(f"cannot use {source} as a face: {error}; repair, convert or remove the file") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode with a known range to 8-bit RGB."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling.
        grey = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit (mode {image.mode}), whose range is unknown")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    return image.convert("RGB")
