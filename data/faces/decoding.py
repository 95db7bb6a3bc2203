"""Bytes of an image file to an upright 8-bit sRGB image, whatever the bytes are: formats, suffixes, modes, limits."""

import io
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps

from data.faces.color_profiles import ProfileConversion, note_colours, noted_conversion
from system.wording import counted, printable

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
    """Says how many files a listing passed over by their suffix in small letters (`NO_SUFFIX` for none), such as "left
    out: 16 .heic, 1 .hif (pip install pillow-heif reads them), 2 .mov"; empty where nothing was."""
    if not left_out:
        return ""
    kinds: dict[str, list[str]] = {}  # what is said of each is said once
    for suffix, number in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        kinds.setdefault(ADVICE.get(suffix, suffix), []).append(f"{number:,} {printable(suffix[:20])}")
    parts = [
        f"{', '.join(kind)}{f' ({advice})' if advice in ADVICE.values() else ''}" for advice, kind in kinds.items()
    ]
    more = f" and {counted(len(parts) - 12, 'more suffix')}" if len(parts) > 12 else ""
    return f"left out: {', '.join(parts[:12])}{more}"


MAX_PIXELS = 80_000_000
"""Larger images are refused before decoding, more than any camera face crop needs."""
MAX_DECODED_BYTES = 9 * MAX_PIXELS
"""Memory that decoding may take beside the file itself, 720 MB: Pillow keeps 4 bytes a pixel of the stored image and of
the RGB one."""
BYTES_PER_PIXEL = {"WEBP": 18, "AVIF": 20, "HEIF": 14, "JPEG2000": 30, "progressive JPEG": 12}
"""Of decoders that keep the whole image in further buffers (measured by tests), which allows fewer pixels."""
MAX_SCANS = 100
"""A JPEG may have so many passes over the image, each of which costs as much time as the picture has pixels; cameras
and programs write 1 to 20."""
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
"""A marker with a length behind it; within the data of a scan FF is followed by 0 or a restart marker."""
_START_OF_SCAN, _END_OF_IMAGE, _PROGRESSIVE = 0xDA, 0xD9, (0xC2, 0xC6, 0xCA, 0xCE)
STRIP_PIXELS = 2**20
"""Converted at once."""

Color = tuple[int, int, int]
"""8-bit sRGB."""
BLACK: Color = (0, 0, 0)
"""What transparent pictures are laid over unless another colour is asked for."""


def color_of(text: str) -> Color:
    """Reads a colour such as #ff8000 or white; ValueError where it is none."""
    name = text.strip().lower()
    if name not in ImageColor.colormap and re.fullmatch("#[0-9a-f]{6}", name) is None:
        raise ValueError(f"a background must be '#rrggbb' or a color's name such as white, got {printable(text)!r}")
    red, green, blue = ImageColor.getrgb(name)[:3]
    return red, green, blue


_ANIMATED_FORMATS = ("PNG", "WEBP", "AVIF", "GIF")


class Photograph(NamedTuple):
    """A decoded image file."""

    image: Image.Image
    """Upright, 8-bit RGB."""
    format: str
    """Pillow's name, such as JPEG, PNG or MPO (a JPEG with more pictures behind the first)."""
    mode: str
    """Before the conversion to RGB, such as CMYK, P (palette), I;16 (16-bit grey) or RGB;16."""
    is_transparent: bool = False
    """Whether it was laid over a background."""
    profile: str = ""
    """What its colour profile calls itself, and whether it was converted or passed over; empty where there is none."""


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """Turns whatever Pillow's decoders raise for damaged files into a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which does not matter here
            yield
    except Image.UnidentifiedImageError as error:
        wanted = ", ".join(pillow_formats())
        raise ValueError(f"cannot identify image file: it is none of {wanted}, or its header is damaged") from error
    except Exception as error:  # a dozen kinds
        raise ValueError(str(error) or type(error).__name__) from error


def load(content: bytes) -> tuple[Image.Image, str]:
    """Decodes an image as it is stored; the size in its header is checked before memory is taken for pixels.

    Colours of 16 bits in PNG and TIFF files are rounded to 8, where Pillow would cut them off; those of JPEG 2000, and
    TIFF colours that are multiplied by their opacity, are cut off. Gives the image, neither turned nor converted, and
    its mode: Pillow's, followed by ";16" where colours were rounded; its info holds what `note_colours` finds.
    ValueError as for `decode`.
    """
    if not content:
        raise ValueError("it is empty")
    if content[4:10] in (b"ftyphe", b"ftypmi") and not reads_heif() and b"avif" not in content[8:64]:
        raise ValueError(f"it is a HEIC file, whatever its name; {ADVICE['.heic']}")
    with _one_kind_of_error():
        image = Image.open(io.BytesIO(content), formats=pillow_formats())
        _check_header(image, content)
        tiles = image.tile
        layout = tiles[0].args if tiles else None
        layout = layout[0] if isinstance(layout, tuple) and layout else layout
        image.load()
        note_colours(image, content)
        if layout not in _OTHER_BYTES:
            return image, image.mode
        low = Image.open(io.BytesIO(content), formats=[image.format or ""])
        low.tile = [_reading_other_bytes(tile) for tile in tiles]
        low.load()
        _round_to_8_bits(image, low, layout)
        return image, f"{image.mode};16"


_OTHER_BYTES = {"LA;16B": "RGBA"} | {
    f"{colours};16{order}": f"{colours};16{other}"
    for colours in ("RGB", "RGBX", "RGBA", "CMYK")
    for order, other in {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}.items()
}
"""Of 16-bit colours Pillow reads the high bytes; told that the bytes lie in the other order it reads the low ones."""


def _reading_other_bytes(tile: Any) -> Any:
    args = tile.args
    other = (_OTHER_BYTES[args[0]], *args[1:]) if isinstance(args, tuple) else _OTHER_BYTES[args]
    return tile._replace(args=other)


def _round_to_8_bits(image: Image.Image, low: Image.Image, layout: str) -> None:
    """Rounds 16-bit colours whose high and low bytes were read apart, in place in the image of the high ones."""
    for box in _strips(image, STRIP_PIXELS // 4):
        lower = np.asarray(low.crop(box)).astype(np.uint32)
        if layout == "LA;16B":  # all four bytes of grey and opacity
            lower = lower[..., [1, 1, 1, 3]]
        values = np.asarray(image.crop(box)).astype(np.uint32) * 256 + lower
        rounded = ((values + 128) // 257).astype(np.uint8)  # 65535 / 255 is odd: no value lies halfway
        image.paste(Image.fromarray(rounded, image.mode), box[:2])


def _strips(image: Image.Image, most_pixels: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of so many pixels, or of one row, that cover an image, for `crop`."""
    rows = max(1, most_pixels // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def decode(content: bytes, background: Color = BLACK) -> Photograph:
    """Decodes an image to what the networks see.

    Transparent images are laid over the background, 16 bits are rounded to 8. Pictures with a colour profile other than
    sRGB are converted to sRGB; CMYK without one becomes the complement. Of a JPEG, TIFF or HEIC file with several
    pictures the first is taken; animated PNG, WebP, AVIF and GIF files are refused, as they are no photographs.

    Args:
        content: A whole file.
        background: Of transparent images.

    Returns:
        The image, turned upright as its EXIF orientation says.

    Raises:
        ValueError: If the content cannot be decoded, is animated, too large or has a mode without a known range.
    """
    image, mode = load(content)
    with _one_kind_of_error():
        ImageOps.exif_transpose(image, in_place=True)
        profile = noted_conversion(image)
        is_converted = profile is not None and profile.transform is not None
        colours = "" if profile is None else profile.name + (", converted to sRGB" if is_converted else "")
        is_transparent = image.has_transparency_data
        rgb = _to_rgb(image, background, profile if is_converted else None)
        return Photograph(rgb, image.format or "unknown", mode, is_transparent, colours)


def _check_header(image: Image.Image, content: bytes) -> None:
    """Refuses by what the header says, before any pixel is decoded."""
    width, height = image.size
    if min(width, height) < 1:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, more than the {MAX_PIXELS} allowed")
    if image.format in _ANIMATED_FORMATS and getattr(image, "is_animated", False):
        raise ValueError("it is animated; store one frame as an image")
    is_16_bits = image.mode == "I" and image.format == "PPM"  # to which Pillow scales it
    if image.mode == "F" or (image.mode == "I" and not is_16_bits):
        raise ValueError(f"its pixels are 32-bit (mode {image.mode}), whose range is unknown")
    kind = image.format
    if kind in ("JPEG", "MPO"):
        num_scans, is_progressive = _scans(content)
        if num_scans > MAX_SCANS:
            raise ValueError(f"it is a JPEG of {num_scans} scans, more than the {MAX_SCANS} allowed; store it anew")
        kind = "progressive JPEG" if is_progressive else kind
    most_pixels = MAX_DECODED_BYTES // BYTES_PER_PIXEL.get(kind or "", 9)
    if width * height > most_pixels:
        raise ValueError(f"it has {width} x {height} pixels, more than the {most_pixels} allowed in a {kind} file")


def _scans(content: bytes) -> tuple[int, bool]:
    """Scans of the first image of a JPEG file, counted up to one more than allowed, and whether it is progressive.

    Pictures within its metadata do not count.
    """
    place, num_scans, is_progressive = 2, 0, False
    while num_scans <= MAX_SCANS and (found := _MARKER.search(content, place)) is not None:
        marker = found[1][0]
        if marker == _END_OF_IMAGE:
            break
        num_scans += marker == _START_OF_SCAN
        is_progressive |= marker in _PROGRESSIVE
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return num_scans, is_progressive


def _to_rgb(image: Image.Image, background: Color, profile: ProfileConversion | None) -> Image.Image:
    """Any mode with a known range to 8-bit RGB, strip by strip, so that nothing is kept beside the two images."""
    if image.mode == "RGB" and not image.has_transparency_data and profile is None:
        return image
    rgb = Image.new("RGB", image.size)
    for box in _strips(image, STRIP_PIXELS):
        rgb.paste(_strip_to_rgb(image.crop(box), background, profile), box[:2])
    return rgb


def _strip_to_rgb(image: Image.Image, background: Color, profile: ProfileConversion | None) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 instead of scaling. 257 is odd: no value lies halfway.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        image = Image.fromarray(grey.astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB") if profile is None else profile.apply(image)
    coloured = image.convert("RGBA")
    if profile is not None:
        opacity, coloured = coloured.getchannel("A"), profile.apply(image)
        coloured.putalpha(opacity)
    beneath = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(beneath, coloured).convert("RGB")
