"""Colours that files say to be others than sRGB, by a profile or by numbers, and how their pictures become sRGB."""

import io
import struct
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from system.wording import unwrapped

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


UNUSUAL = "unusual_colours"
"""Entry of a picture's info that names colours which no profile can say, such as HDR."""


def note_colours(image: Image.Image, content: bytes) -> None:
    """Puts what a file of this content says of its picture's colours into the picture's info: as `icc_profile` the
    profile, also where Pillow passes it over or the file says the same by numbers, and what `UNUSUAL` stands for.

    Numbers go before the profile in PNG (third edition, 4.3) and behind it in AVIF and HEIC (ISO 23000-22, 7.3.6.4).
    """
    is_png, numbers = image.format == "PNG", _numbers(image, content)
    given = image.info.pop("icc_profile", None) if image.format != "JPEG2000" else jpeg2000_profile(content)
    given, by_numbers = given if isinstance(given, bytes) else b"", profile_by_numbers(*numbers)
    if profile := (by_numbers or given) if is_png else (given or by_numbers):
        image.info["icc_profile"] = profile
    if by_numbers is None and (is_png or not given):
        hdr = " (HDR)" if numbers[1] in (16, 18) else ""
        image.info[UNUSUAL] = f"colours {numbers[0]} with curve {numbers[1]} of H.273{hdr}"


def noted_conversion(image: Image.Image) -> ProfileConversion | None:
    """The conversion of the colours that `note_colours` found, if the file said any."""
    if profile := image.info.get("icc_profile"):
        return conversion_of(profile, image.mode)
    unusual = image.info.get(UNUSUAL)
    return ProfileConversion(f"{unusual}, ignored") if unusual else None


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
        name = unwrapped(profile.profile.profile_description or "unnamed profile")[:80]
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


class _Primaries(NamedTuple):
    """Chromaticities x, y of red, green, blue and white."""

    name: str
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]
    white: tuple[float, float] = (0.3127, 0.3290)


_UNSPECIFIED, _SRGB_NUMBERS = 2, (1, 13)
_PRIMARIES = {
    1: _Primaries("sRGB", (0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    5: _Primaries("BT.601 (625 lines)", (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: _Primaries("BT.601 (525 lines)", (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: _Primaries("SMPTE 240M", (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: _Primaries("BT.2020", (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: _Primaries("DCI P3", (0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: _Primaries("Display P3", (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""By their number in ITU-T H.273, table 2."""
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES: dict[int, tuple[float, ...]] = {4: (2.2,), 5: (2.8,), 8: (1.0,)} | dict.fromkeys(
    (1, 6, 13, 14, 15), _SRGB_CURVE
)
"""Parameters of ICC's curves 0 and 3 by the number in ITU-T H.273, table 3; video's count as sRGB's, as in browsers."""
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@cache
def profile_by_numbers(primaries: int = _UNSPECIFIED, transfer: int = _UNSPECIFIED) -> bytes | None:
    """Writes the ICC profile (version 4) of colours that are named by the numbers of ITU-T H.273; empty for sRGB, which
    is what counts where nothing is specified; None where there is no profile, as for HDR."""
    numbers = tuple(
        usual if number == _UNSPECIFIED else number
        for number, usual in zip((primaries, transfer), _SRGB_NUMBERS, strict=True)
    )
    found, curve = _PRIMARIES.get(numbers[0]), _CURVES.get(numbers[1])
    if found is None or curve is None:
        return None
    if numbers[0] == 1 and curve == _SRGB_CURVE:
        return b""
    name = f"{found.name} by number" + ("" if curve == _SRGB_CURVE else f", gamma {curve[0]:g}")
    text, white = name.encode("utf-16-be"), _fixed(*_D50)
    description = struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(text), 28) + text
    tags = {b"desc": description + bytes(-len(description) % 4), b"wtpt": b"XYZ \0\0\0\0" + white}
    for tag, colorant in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _colorants(found).T, strict=True):
        tags[tag] = b"XYZ \0\0\0\0" + _fixed(*colorant)
    kind = 3 if len(curve) > 1 else 0
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), struct.pack(">4s4xHH", b"para", kind, 0) + _fixed(*curve))
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for tag, value in tags.items():
        table += struct.pack(">4sII", tag, start + len(data), len(value))
        data += value
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(data), 0x04000000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return header + white + bytes(48) + struct.pack(">I", len(tags)) + table + data


def _fixed(*values: float) -> bytes:
    """Numbers as ICC writes them, s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def _colorants(primaries: _Primaries) -> npt.NDArray[np.float64]:
    """XYZ of red, green and blue in columns, [3, 3], adapted to D50 by Bradford's matrix."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries[1:]]).T  # [3, 4]
    white = xyz[:, 3]
    colorants = xyz[:, :3] * np.linalg.solve(xyz[:, :3], white)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ (gains[:, None] * (_BRADFORD @ colorants)))


def _numbers(image: Image.Image, content: bytes) -> tuple[int, ...]:
    """Numbers of primaries and transfer that a file names; none where it names none."""
    if image.format == "PNG":
        return _numbers_of_png(content)
    return _numbers_of_boxes(content) if image.format in ("AVIF", "HEIF") else ()


def _numbers_of_png(content: bytes) -> tuple[int, ...]:
    """Numbers of primaries and transfer in the chunk cICP of a PNG file; none where there is no such chunk."""
    place = 8
    while place + 12 <= len(content):
        size_bytes, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        if kind == b"cICP" and size_bytes == 4:
            return content[place + 8], content[place + 9]
        if kind == b"IDAT":
            break
        place += 12 + size_bytes
    return ()


def _numbers_of_boxes(content: bytes) -> tuple[int, ...]:
    """Numbers of primaries and transfer of the first item of an AVIF or HEIC file; none where no box names them."""
    try:
        meta = dict(_boxes(_first(content, b"meta")[4:]))
        properties = dict(_boxes(meta[b"iprp"]))
        wanted = int.from_bytes(meta[b"pitm"][4:], "big")
        boxes = list(_boxes(properties[b"ipco"]))
        for index in _properties_of(properties[b"ipma"], wanted):
            kind, box = boxes[index - 1]
            if kind == b"colr" and box[:4] == b"nclx":
                return struct.unpack(">HH", box[4:8])
    except (KeyError, IndexError, struct.error):  # damaged; whether it can be decoded is for others to say
        pass
    return ()


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents of the boxes of ISO 14496-12, one after another."""
    place = 0
    while place + 8 <= len(content):
        size_bytes, kind = struct.unpack_from(">I4s", content, place)
        begin = 8
        if size_bytes == 1:
            size_bytes, begin = struct.unpack_from(">Q", content, place + 8)[0], 16
        size_bytes = len(content) - place if size_bytes == 0 else max(size_bytes, begin)
        yield kind, content[place + begin : place + size_bytes]
        place += size_bytes


def _first(content: bytes, wanted: bytes) -> bytes:
    return next((box for kind, box in _boxes(content) if kind == wanted), b"")


def _properties_of(associations: bytes, wanted: int) -> list[int]:
    """Positions from 1 of an item's properties, of the content of a box ipma."""
    version, is_wide, place = associations[0], associations[3] & 1, 8
    for _ in range(int.from_bytes(associations[4:8], "big")):
        item, number = struct.unpack_from(">IB" if version else ">HB", associations, place)
        place += 5 if version else 3
        indices = struct.unpack_from(f">{number}{'H' if is_wide else 'B'}", associations, place)
        place += number * (1 + is_wide)
        if item == wanted:
            return [index & (0x7FFF if is_wide else 0x7F) for index in indices]
    return []
