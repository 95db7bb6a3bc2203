"""Embedded colour profiles: what they call themselves and how pictures that carry one become sRGB."""

import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 * 2**20
"""Larger profiles are not read; those of printers have up to 3 MB."""
SAME_LEVELS = 2
"""Profiles that move no colour further are sRGB, written down by another program: their pictures stay as they are."""
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode by the colour space of a profile."""
_SRGB = ImageCms.createProfile("sRGB")


class ProfileConversion(NamedTuple):
    """How pictures with one profile become sRGB."""

    name: str
    """What the profile calls itself; in brackets why it is passed over, if it is."""
    mode: str = ""
    """Pillow's mode of the pixels that it takes: RGB, L or CMYK."""
    transform: ImageCms.ImageCmsTransform | None = None
    """None where the pixels are sRGB already or the profile cannot be used."""

    def apply(self, image: Image.Image) -> Image.Image:
        """Converts pixels of any 8-bit mode of the same kind of colours to RGB, sRGB; transparency is not kept."""
        assert self.transform is not None  # asked by who calls
        converted = ImageCms.applyTransform(image.convert(self.mode), self.transform)
        assert converted is not None  # it is not done in place
        return converted


def conversion_of(profile: bytes, mode: str) -> ProfileConversion:
    """Reads a profile; the last ones are remembered, as the photographs of a set share few.

    Relative colorimetric with black point compensation, what browsers and photo programs do. A profile that is damaged,
    too large or meant for another kind of pixels is passed over, as browsers do, and says so in its name. `mode` is
    Pillow's of the picture that holds the profile.
    """
    if len(profile) > MAX_PROFILE_BYTES:
        return ProfileConversion(f"profile of {len(profile)} bytes (too large, ignored)")
    return _read(profile, _colour_space(mode))


def embedded_conversion(image: Image.Image, content: bytes) -> ProfileConversion | None:
    """The conversion of the colour profile that is embedded in a picture's file, if there is one."""
    profile = jpeg2000_profile(content) if image.format == "JPEG2000" else image.info.get("icc_profile")
    return conversion_of(profile, image.mode) if isinstance(profile, bytes) and profile else None


def jpeg2000_profile(content: bytes) -> bytes:
    """The ICC profile in the boxes of a JPEG 2000 file, which Pillow passes over; empty where there is none."""
    place = 0
    while place + 11 <= len(content):
        size_bytes, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        if kind == b"colr" and content[place + 8] in (2, 3):  # restricted or any ICC profile, not a number
            return content[place + 11 : place + size_bytes]
        if size_bytes < 8:  # the code stream up to the end
            break
        place += 8 if kind == b"jp2h" else size_bytes  # into the box of headers, over all others
    return b""


def _colour_space(mode: str) -> str:
    if mode == "CMYK":
        return "CMYK"
    return "GRAY" if mode in ("1", "L", "LA", "La", "I") or mode.startswith("I;16") else "RGB"


@lru_cache(maxsize=16)
def _read(content: bytes, picture: str) -> ProfileConversion:
    """The conversion of pictures of a colour space (RGB, GRAY, CMYK)."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        name = " ".join((profile.profile.profile_description or "unnamed profile").split())[:80]
        space = profile.profile.xcolor_space.strip()
        if space != picture and (space, picture) != ("RGB", "GRAY"):
            return ProfileConversion(f"{name} (for {space} and not {picture}, ignored)")
        mode = _MODES[space]
        transform = ImageCms.buildTransform(
            profile, _SRGB, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        )
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError):
        return ProfileConversion("damaged profile (ignored)")
    conversion = ProfileConversion(name, mode, transform)
    return conversion._replace(transform=None) if _is_identity(conversion) else conversion


def _is_identity(conversion: ProfileConversion) -> bool:
    """Whether 729 colours (all greys of a grey profile) stay where they are."""
    if conversion.mode == "CMYK":
        return False
    if conversion.mode == "L":
        colours = np.arange(256, dtype=np.uint8)[None]  # [1, 256]
    else:
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    image = Image.fromarray(colours)
    moved = np.asarray(conversion.apply(image), int) - np.asarray(image.convert("RGB"), int)
    return bool(np.abs(moved).max() <= SAME_LEVELS)
