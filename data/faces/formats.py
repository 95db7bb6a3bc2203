"""Formats of image files that are read, and the suffixes under which people have them."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from system.atomic_file import printable

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Pillow's formats that are decoded inside the process: Pillow would hand a disguised EPS to Ghostscript. TGA is not
among them, as it has no signature: anything may be one."""
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
HEIF_PACKAGE = "pillow_heif"
"""Reads what phones write. It is no dependency: its wheels hold x265, whose licence (GPL) not everybody can take."""
ADVICE = dict.fromkeys(HEIF_SUFFIXES, "pip install pillow-heif reads them") | {
    ".jxl": "convert them to PNG",
    ".dng": "develop them to TIFF or PNG",
    ".tga": "convert them to PNG",
    ".psd": "convert them to PNG",
}
"""What to do with pictures that are left out, by their suffix."""
NO_SUFFIX = "without suffix"


def reads_heif() -> bool:
    """Whether the package that reads HEIC is installed; it is not imported for the answer."""
    return find_spec(HEIF_PACKAGE) is not None


@cache
def pillow_formats() -> tuple[str, ...]:
    """Names of the formats that `Image.open` may take; registers the plugin of HEIC where there is one."""
    if not reads_heif():
        return tuple(SUFFIXES)
    import_module(HEIF_PACKAGE).register_heif_opener()
    return (*SUFFIXES, "HEIF")


@cache
def image_suffixes() -> tuple[str, ...]:
    """Suffixes of the files that count as photographs, in small letters; those of HEIC only where it can be read."""
    usual = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    return usual + HEIF_SUFFIXES if reads_heif() else usual


def left_out_line(left_out: Mapping[str, int]) -> str:
    """Says what a listing passed over.

    Args:
        left_out: How many files by their suffix in small letters, `NO_SUFFIX` for none.

    Returns:
        One line such as "left out: 16 .heic (pip install pillow-heif reads them), 2 .mov"; empty where nothing was.
    """
    if not left_out:
        return ""
    parts = []
    for suffix, number in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        advice = f" ({ADVICE[suffix]})" if suffix in ADVICE else ""
        parts.append(f"{number:,} {printable(suffix[:20])}{advice}")
    return f"left out: {', '.join(parts[:12])}{f' and {len(parts) - 12} more suffixes' if len(parts) > 12 else ''}"
