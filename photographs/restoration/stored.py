"""A photograph as its file stores it: pixels that are worked on, and all that has to come back into the file."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin

from data.faces.color_profiles import UNUSUAL, conversion_of
from data.faces.decoding import BLACK, Color, decode, load
from photographs.faces.alignment import Pixels
from system.atomic_file import replacing

KEPT_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000")
"""Formats in which a photograph is written again; the others become PNG."""
_TRANSPARENT_FORMATS = ("PNG", "WEBP", "TIFF", "AVIF", "JPEG2000")
_PLAIN_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "1")
"""Whose colours are worked on and written as they are stored."""
_COLOR_MODES = ("RGB", "RGBA", "P", "PA")
"""Of these those whose pixels a profile for RGB describes."""
_COARSEST_JPEG_QUALITY = 92
"""A JPEG stored more coarsely is written at this quality: its own would undo what was restored."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns stored pixels upright, by EXIF's orientation."""
_BACK = _UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass
class StoredPhoto:
    """A decoded photograph with what its file says beside the pixels."""

    pixels: Pixels
    """uint8 [H, W, 3], upright, in the file's own colour space, laid over the background; changed in place."""
    image: Image.Image
    """As it was stored, decoded; gives what is kept."""
    format: str
    """In which it is written again."""
    is_lossless: bool
    """Whether a WebP file stores every pixel as it is."""
    orientation: int = 1
    """EXIF's, 1 for upright."""
    notes: tuple[str, ...] = ()
    """What cannot be kept, for the report."""
    background: Color = BLACK
    """What is seen behind transparent pixels."""
    is_plain: bool = True
    """Whether the stored colours are worked on, not colours that became 8-bit sRGB."""

    def to_srgb(self, pixels: Pixels) -> Pixels:
        """Pixels of the file's colour space as sRGB."""
        profile = self._profile()
        if profile is None:
            return pixels
        conversion = conversion_of(profile, "RGB")
        return pixels if conversion.transform is None else np.array(conversion.apply(Image.fromarray(pixels)))

    def from_srgb(self, pixels: Pixels) -> Pixels:
        """sRGB pixels in the file's colour space."""
        profile = self._profile()
        if profile is None or conversion_of(profile, "RGB").transform is None:
            return pixels
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        changed = ImageCms.profileToProfile(
            Image.fromarray(pixels),
            ImageCms.createProfile("sRGB"),
            own,
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return np.array(changed)

    def write(self, path: Path) -> None:
        """Writes the photograph atomically, turned as it was stored, with its metadata."""
        is_transparent = self.image.has_transparency_data and self.format in _TRANSPARENT_FORMATS
        result = Image.fromarray(self._stored_colors() if is_transparent else self.pixels)
        if self.orientation in _BACK:
            result = result.transpose(_BACK[self.orientation])
        if self.image.mode in ("L", "1", "LA"):
            result = result.convert("L")
        if is_transparent:
            result.putalpha(self.image.convert("RGBA").getchannel("A"))
        with replacing(path) as temporary:
            result.save(temporary, format=self.format, **self._options())

    def laid_over_background(self, colors: Pixels) -> Pixels:
        """How the picture is seen whose colours, [H, W, 3], are these where its opacity is left out."""
        opacity = self.image.convert("RGBA").getchannel("A")
        beneath = self.from_srgb(np.full((1, 1, 3), self.background, dtype=np.uint8))
        background = Image.new("RGB", colors.shape[1::-1], tuple(beneath[0, 0].tolist()))
        return np.array(Image.composite(Image.fromarray(colors), background, _upright(opacity, self.orientation)))

    def _stored_colors(self) -> Pixels:
        """The colours of the file, to which is added what changed in `pixels`: the background does not come into it."""
        if not self.is_plain:
            return self.pixels
        own = _colors(self.image, self.orientation)
        seen = self.laid_over_background(own)
        brighter, darker = cv2.subtract(self.pixels, seen), cv2.subtract(seen, self.pixels)  # each 0 where the other is
        return np.asarray(cv2.subtract(cv2.add(own, brighter), darker), dtype=np.uint8)

    def _profile(self) -> bytes | None:
        """The embedded profile where it describes the pixels that are worked on."""
        profile = self.image.info.get("icc_profile")
        is_own = self.is_plain and self.image.mode in _COLOR_MODES
        return profile if isinstance(profile, bytes) and is_own else None

    def _options(self) -> dict[str, Any]:
        """How Pillow writes the file as it was."""
        info = self.image.info
        keys = {
            "JPEG": ("exif", "xmp", "comment", "dpi"),
            "PNG": ("exif", "dpi"),
            "WEBP": ("exif", "xmp"),
            "TIFF": ("dpi",),
            "AVIF": ("exif", "xmp"),
            "JPEG2000": ("comment",),
            "BMP": ("dpi",),
        }[self.format]
        options = {key: info[key] for key in keys if info.get(key)}
        if self.is_plain and self.image.mode != "1" and self.format != "BMP" and info.get("icc_profile"):
            options["icc_profile"] = info["icc_profile"]
        if self.format == "JPEG":
            options |= _jpeg_options(self.image)
        elif self.format == "WEBP":
            options |= {"quality": 95, "lossless": self.is_lossless}
        elif self.format == "AVIF":
            options["quality"] = 92
        elif self.format == "JPEG2000":
            options["irreversible"] = False
        elif self.format == "TIFF":
            options |= _tiff_options(self.image)
        return options


def read_stored(content: bytes, background: Color = BLACK) -> StoredPhoto:
    """Decodes the whole file of a photograph and keeps what it says; ValueError as for `data.faces.decoding.decode`."""
    image, mode = load(content)
    format = image.format or "PNG"
    format = "JPEG" if format == "MPO" else format
    notes = []
    if image.format == "MPO":
        notes.append("only the first of its pictures is kept")
    if format not in KEPT_FORMATS:
        notes.append(f"{format} is written as PNG")
        format = "PNG"
    is_plain = image.mode in _PLAIN_MODES and not (format == "JPEG2000" and image.info.get("icc_profile"))
    if not is_plain:
        notes.append(f"its {mode} pixels become 8-bit sRGB")
    elif mode != image.mode:
        notes.append(f"its {mode} pixels become 8-bit")
    if unusual := image.info.get(UNUSUAL):
        notes.append(f"its {unusual} are written without their numbers")
    if image.has_transparency_data and format not in _TRANSPARENT_FORMATS:
        notes.append("its transparent pixels are laid over the background")
    orientation = _orientation(image)
    pixels = _colors(image, orientation) if is_plain else np.array(decode(content, background).image)
    is_lossless = format == "WEBP" and _is_lossless_webp(content)
    photo = StoredPhoto(pixels, image, format, is_lossless, orientation, tuple(notes), background, is_plain)
    if is_plain and image.has_transparency_data:
        photo.pixels = photo.laid_over_background(pixels)
    return photo


def _colors(image: Image.Image, orientation: int) -> Pixels:
    """Colours of a plain mode, upright, whatever their opacity."""
    opaque = image.convert("RGBA").convert("RGB") if image.has_transparency_data else image.convert("RGB")
    return np.array(_upright(opaque, orientation))


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def written_name(name: str, photo: StoredPhoto) -> str:
    """The name under which a photograph is written: its own, unless its format cannot be kept."""
    return name if photo.image.format in (*KEPT_FORMATS, "MPO") else f"{name}.png"


def _is_lossless_webp(content: bytes) -> bool:
    """Whether the chunk with the pixels is the lossless one; profiles may come before it."""
    place = 12
    while place + 8 <= len(content):
        kind = content[place : place + 4]
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        size_bytes = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size_bytes + size_bytes % 2
    return False


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation of a loaded picture; Pillow turns TIFF files itself and removes the tag."""
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in _UPRIGHT else 1


def _jpeg_options(image: Image.Image) -> dict[str, Any]:
    """The same tables and subsampling, so that blocks which nobody changed are stored as they were."""
    sampling = JpegImagePlugin.get_sampling(image) if image.mode != "L" else -1
    options: dict[str, Any] = {"progressive": bool(image.info.get("progressive"))}
    if sampling >= 0:
        options["subsampling"] = sampling
    tables = getattr(image, "quantization", {})
    coarsest = _mean_step_at(_COARSEST_JPEG_QUALITY)
    if tables and image.mode in ("RGB", "L") and float(np.mean(tables[0])) <= coarsest:
        return options | {"qtables": tables}
    return options | {"quality": _COARSEST_JPEG_QUALITY}


def _mean_step_at(quality: int) -> float:
    """Mean step of libjpeg's luminance table at a quality."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as image:
        return float(np.mean(image.quantization[0]))  # type: ignore[attr-defined]


def _tiff_options(image: Image.Image) -> dict[str, Any]:
    """Compression as before; JPEG within TIFF loses, deflate does not."""
    compression = image.info.get("compression")
    lossless = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
    kept = {tag: value for tag in (270, 271, 272, 305, 306, 315, 33432) if (value := image.getexif().get(tag))}
    exif = Image.Exif()
    for tag, value in kept.items():
        exif[tag] = value
    return {"compression": compression if compression in lossless else "tiff_adobe_deflate", "exif": exif}
