"""Bytes of an image file to an upright 8-bit RGB image, whatever the bytes are."""

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 80_000_000
"""Larger images are refused before decoding: about 240 MB as RGB, more than any camera face crop needs."""

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
                _check_header(image)
                return Photograph(_to_rgb(ImageOps.exif_transpose(image)), image.format or "unknown", image.mode)
    except Image.UnidentifiedImageError as error:
        wanted = ", ".join(_PIL_FORMATS)
        raise ValueError(f"cannot identify image file: it is none of {wanted}, or its header is damaged") from error
    except Exception as error:  # Pillow's decoders meet damaged files with a dozen kinds of exceptions
        raise ValueError(str(error) or type(error).__name__) from error


def _check_header(image: Image.Image) -> None:
    """Refuses by what the header says, before any pixel is decoded."""
    width, height = image.size
    if min(width, height) < 1:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, more than the {MAX_PIXELS} allowed")
    if image.format in _ANIMATED_FORMATS and getattr(image, "is_animated", False):
        raise ValueError("it is animated; store one frame as an image")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode with a known range to 8-bit RGB."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling. 257 is odd: no value lies halfway.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit (mode {image.mode}), whose range is unknown")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    return image.convert("RGB")
