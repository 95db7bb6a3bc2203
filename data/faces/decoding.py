"""Bytes of an image file to an upright 8-bit RGB image, whatever the bytes are."""

import io
import re
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 80_000_000
"""Larger images are refused before decoding, more than any camera face crop needs."""
MAX_DECODED_BYTES = 9 * MAX_PIXELS
"""Memory that decoding may take beside the file itself, 720 MB: Pillow keeps 4 bytes a pixel of the stored image and of
the RGB one."""
BYTES_PER_PIXEL = {"WEBP": 18, "progressive JPEG": 12}
"""Of decoders that keep the whole image in further buffers (measured by tests), which allows fewer pixels."""
MAX_SCANS = 100
"""A JPEG may have so many passes over the image, each of which costs as much time as the picture has pixels; cameras
and programs write 1 to 20."""
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
"""A marker with a length behind it; within the data of a scan FF is followed by 0 or a restart marker."""
_START_OF_SCAN, _END_OF_IMAGE, _PROGRESSIVE = 0xDA, 0xD9, (0xC2, 0xC6, 0xCA, 0xCE)
STRIP_PIXELS = 2**20
"""Converted at once."""

# Only formats decoded inside the process: Pillow would hand a disguised EPS to Ghostscript.
_PIL_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_ANIMATED_FORMATS = ("PNG", "WEBP")


class Photograph(NamedTuple):
    """A decoded image file."""

    image: Image.Image
    """Upright, 8-bit RGB."""
    format: str
    """JPEG, PNG, WEBP, BMP, TIFF or MPO (a JPEG with more pictures behind the first)."""
    mode: str
    """Pillow's mode before the conversion to RGB, such as CMYK, P (palette) or I;16 (16-bit grey)."""


def decode(content: bytes) -> Photograph:
    """Decodes an image; the size in its header is checked before memory is taken for pixels.

    Transparent images are laid over black, 16-bit grey is scaled to 8 bits, of 16-bit colour the high bytes are kept,
    CMYK is converted without its colour profile (profiles are ignored throughout). Of a JPEG or TIFF file with several
    pictures the first is taken; animated PNG and WebP files are refused, as they are no photographs.

    Args:
        content: A whole file.

    Returns:
        The image, turned upright as its EXIF orientation says.

    Raises:
        ValueError: If the content cannot be decoded, is animated, too large or has a mode without a known range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which does not matter here
            with Image.open(io.BytesIO(content), formats=_PIL_FORMATS) as image:
                _check_header(image, content)
                mode = image.mode
                ImageOps.exif_transpose(image, in_place=True)
                return Photograph(_to_rgb(image), image.format or "unknown", mode)
    except Image.UnidentifiedImageError as error:
        wanted = ", ".join(_PIL_FORMATS)
        raise ValueError(f"cannot identify image file: it is none of {wanted}, or its header is damaged") from error
    except Exception as error:  # Pillow's decoders meet damaged files with a dozen kinds of exceptions
        raise ValueError(str(error) or type(error).__name__) from error


def _check_header(image: Image.Image, content: bytes) -> None:
    """Refuses by what the header says, before any pixel is decoded."""
    width, height = image.size
    if min(width, height) < 1:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, more than the {MAX_PIXELS} allowed")
    if image.format in _ANIMATED_FORMATS and getattr(image, "is_animated", False):
        raise ValueError("it is animated; store one frame as an image")
    kind = image.format
    if kind in ("JPEG", "MPO"):
        num_scans, is_progressive = _scans(content)
        if num_scans > MAX_SCANS:
            raise ValueError(f"it is a JPEG of {num_scans} scans, more than the {MAX_SCANS} allowed; store it anew")
        kind = "progressive JPEG" if is_progressive else kind
    most = MAX_DECODED_BYTES // BYTES_PER_PIXEL.get(kind or "", 9)
    if width * height > most:
        raise ValueError(f"it has {width} x {height} pixels, more than the {most} allowed in a {kind} file")


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


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode with a known range to 8-bit RGB, strip by strip, so that nothing is kept beside the two images."""
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit (mode {image.mode}), whose range is unknown")
    image.load()
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rgb = Image.new("RGB", image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_strip_to_rgb(strip), (0, top))
    return rgb


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling. 257 is odd: no value lies halfway.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    return image.convert("RGB")
