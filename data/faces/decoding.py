"""Bytes of an image file to an upright 8-bit RGB image, whatever the bytes are."""

import io
import re
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from data.faces.color_profiles import ProfileConversion, conversion_of
from data.faces.formats import pillow_formats

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

BACKGROUND = (0, 0, 0)
"""What transparent pictures are laid over: black, sRGB."""

_ANIMATED_FORMATS = ("PNG", "WEBP", "AVIF", "GIF")


class Photograph(NamedTuple):
    """A decoded image file."""

    image: Image.Image
    """Upright, 8-bit RGB."""
    format: str
    """Pillow's name, such as JPEG, PNG or MPO (a JPEG with more pictures behind the first)."""
    mode: str
    """Pillow's mode before the conversion to RGB, such as CMYK, P (palette) or I;16 (16-bit grey)."""
    is_transparent: bool = False
    """Whether it was laid over `BACKGROUND`."""
    profile: str = ""
    """What its colour profile calls itself, and whether it was converted or passed over; empty where there is none."""


def decode(content: bytes) -> Photograph:
    """Decodes an image; the size in its header is checked before memory is taken for pixels.

    Transparent images are laid over `BACKGROUND`, 16-bit grey is scaled to 8 bits, of 16-bit colour the high bytes are
    kept. Pictures with a colour profile other than sRGB are converted to sRGB; CMYK without one becomes the complement.
    Of a JPEG, TIFF or HEIC file with several pictures the first is taken; animated PNG, WebP, AVIF and GIF files are
    refused, as they are no photographs.

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
            with Image.open(io.BytesIO(content), formats=pillow_formats()) as image:
                _check_header(image, content)
                mode, format = image.mode, image.format or "unknown"
                ImageOps.exif_transpose(image, in_place=True)
                profile = _profile(image)
                is_converted = profile is not None and profile.transform is not None
                told = "" if profile is None else profile.name + (", converted to sRGB" if is_converted else "")
                is_transparent = image.has_transparency_data
                rgb = _to_rgb(image, profile if is_converted else None)
                return Photograph(rgb, format, mode, is_transparent, told)
    except Image.UnidentifiedImageError as error:
        wanted = ", ".join(pillow_formats())
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


def _profile(image: Image.Image) -> ProfileConversion | None:
    """The conversion of a picture's embedded colour profile, if there is one."""
    content = image.info.get("icc_profile")
    return conversion_of(content, image.mode) if isinstance(content, bytes) and content else None


def _to_rgb(image: Image.Image, profile: ProfileConversion | None) -> Image.Image:
    """Any mode with a known range to 8-bit RGB, strip by strip, so that nothing is kept beside the two images."""
    is_16_bits = image.mode == "I" and image.format == "PPM"  # to which Pillow has scaled it
    if image.mode == "F" or (image.mode == "I" and not is_16_bits):
        raise ValueError(f"its pixels are 32-bit (mode {image.mode}), whose range is unknown")
    image.load()
    if image.mode == "RGB" and not image.has_transparency_data and profile is None:
        return image
    rgb = Image.new("RGB", image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_strip_to_rgb(strip, profile), (0, top))
    return rgb


def _strip_to_rgb(image: Image.Image, profile: ProfileConversion | None) -> Image.Image:
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
    background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(background, coloured).convert("RGB")
