"""Pictures with other colour profiles than sRGB are converted; all others keep every bit."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from data.faces import color_profiles
from data.faces.color_profiles import jpeg2000_profile, profile_by_numbers
from data.faces.decoding import decode
from photographs.restoration.stored import read_stored
from tests.fixtures.color_profiles import display_p3, grey, srgb_by_numbers

P3_TO_SRGB = np.array([[1.2249402, -0.2249404, 0.0], [-0.0420569, 1.0420571, 0.0], [-0.0196376, -0.0786361, 1.0982735]])
"""Of linear colours under the same white D65, from the chromaticities (P3: .680 .320, .265 .690, .150 .060)."""


def _saved(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def _linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(values: np.ndarray) -> np.ndarray:
    values = values.clip(0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def test_display_p3_becomes_srgb_by_the_matrix_between_their_primaries() -> None:
    pixels = _pixels()
    photograph = decode(_saved(Image.fromarray(pixels), icc_profile=display_p3()))
    wanted = 255 * _encoded(_linear(pixels / 255) @ P3_TO_SRGB.T)
    assert np.abs(np.asarray(photograph.image) - wanted).max() <= 1.5  # 8-bit rounding and lcms's tables
    assert np.abs(wanted - pixels).max() > 30  # what ignoring the profile would cost
    assert photograph.profile == "Display P3, converted to sRGB"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_srgb_by_whichever_program_keeps_every_bit(format: str) -> None:
    image = Image.fromarray(_pixels())
    plain = np.asarray(decode(_saved(image, format)).image)
    for profile in (srgb_by_numbers(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        photograph = decode(_saved(image, format, icc_profile=profile))
        assert np.array_equal(np.asarray(photograph.image), plain)
        assert photograph.profile and "converted" not in photograph.profile


def _jpeg2000_with_profile(image: Image.Image, profile: bytes, method: int) -> bytes:
    """A lossless file whose colour space, a number as Pillow writes it, is replaced by a profile."""
    content = _saved(image, "JPEG2000", irreversible=False)
    place, header = content.index(b"colr") - 4, content.index(b"jp2h") - 4
    box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", method, 0, 0) + profile
    content = content[:place] + box + content[place + 15 :]
    size_bytes = struct.unpack_from(">I", content, header)[0] + len(box) - 15
    return content[:header] + struct.pack(">I", size_bytes) + content[header + 4 :]


@pytest.mark.parametrize("method", [2, 3])
def test_profiles_of_jpeg_2000_count_although_pillow_passes_them_over(method: int) -> None:
    image = Image.fromarray(_pixels())
    expected = decode(_saved(image, icc_profile=display_p3()))
    photograph = decode(_jpeg2000_with_profile(image, display_p3(), method))
    assert photograph.profile == "Display P3, converted to sRGB"
    assert np.array_equal(np.asarray(photograph.image), np.asarray(expected.image))
    stored = read_stored(_jpeg2000_with_profile(image, display_p3(), method))
    assert np.array_equal(stored.to_srgb(stored.pixels), np.asarray(expected.image))
    for harmless in (b"", b"\0" * 40, b"\0\0\0\x0bcolr\2\0\0", _saved(image, "JPEG2000"), b"\xff\x4f\xff\x51" * 9):
        assert jpeg2000_profile(harmless) == b""


def _with_chunk(png: bytes, *numbers: int) -> bytes:
    """A PNG file with the chunk cICP behind its header."""
    chunk = b"cICP" + bytes([*numbers, 0, 1])
    return png[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def _with_numbers(avif: bytes, *numbers: int) -> bytes:
    """An AVIF file of Pillow with other numbers for its colours."""
    place = avif.index(b"colrnclx") + 8
    return avif[:place] + struct.pack(">HH", *numbers) + avif[place + 4 :]


@pytest.mark.parametrize("format", ["PNG", "AVIF"])
def test_colors_named_by_numbers_are_those_of_the_profile_that_says_the_same(format: str) -> None:
    image = Image.fromarray(_pixels())
    options = {} if format == "PNG" else {"quality": 100, "subsampling": "4:4:4"}
    edit = _with_chunk if format == "PNG" else _with_numbers
    plain = _saved(image, format, **options)
    stored = np.asarray(decode(plain).image)
    wanted = decode(_saved(Image.fromarray(stored), icc_profile=display_p3())).image
    photograph = decode(edit(plain, 12, 13))
    assert photograph.profile == "Display P3 by number, converted to sRGB"
    assert np.abs(np.asarray(photograph.image, int) - np.asarray(wanted)).max() <= 1
    kept = read_stored(edit(plain, 12, 13))
    assert np.array_equal(kept.to_srgb(kept.pixels), np.asarray(photograph.image))
    for harmless in ((1, 13), (1, 1), (2, 2)):
        unchanged = decode(edit(plain, *harmless))
        assert unchanged.profile == "" and np.array_equal(np.asarray(unchanged.image), stored)
    bright = decode(edit(plain, 9, 16))
    assert bright.profile == "colours 9 with curve 16 of H.273 (HDR), ignored"
    assert np.array_equal(np.asarray(bright.image), stored)
    note = "its colours 9 with curve 16 of H.273 (HDR) are written without their numbers"
    assert read_stored(edit(plain, 9, 16)).notes == (note,)
    embedded = decode(edit(_saved(image, format, icc_profile=srgb_by_numbers(), **options), 9, 16))
    assert embedded.profile == "some camera's sRGB"


def test_primaries_by_number_are_white_together_and_their_curves_powers() -> None:
    """By lcms: white stays white, and linear light is what it says."""
    for primaries in (5, 6, 7, 9, 11, 12):
        for transfer in (4, 5, 8, 13):
            profile = profile_by_numbers(primaries, transfer)
            assert profile
            white = Image.new("RGB", (1, 1), (255, 255, 255))
            pixel = decode(_saved(white, icc_profile=profile)).image.getpixel((0, 0))
            assert isinstance(pixel, tuple) and min(pixel) >= 254
    half = decode(_saved(Image.new("RGB", (1, 1), (128, 128, 128)), icc_profile=profile_by_numbers(12, 8))).image
    pixel = half.getpixel((0, 0))
    assert isinstance(pixel, tuple) and np.abs(np.array(pixel) - 255 * _encoded(np.array(128 / 255))).max() <= 1
    assert profile_by_numbers(1, 13) == b"" and profile_by_numbers(9, 18) is None


def test_boxes_and_chunks_that_are_damaged_name_no_numbers() -> None:
    image = Image.fromarray(_pixels())
    avif, png = _with_numbers(_saved(image, "AVIF"), 12, 13), _with_chunk(_saved(image), 12, 13)
    for content, numbers in ((avif, color_profiles._numbers_of_boxes), (png, color_profiles._numbers_of_png)):
        assert tuple(numbers(content)) == (12, 13)
        for length in range(0, len(content), 7):
            assert tuple(numbers(content[:length])) in ((), (12, 13))
        random = np.random.default_rng(0)
        for _ in range(300):
            damaged = bytearray(content)
            for place in random.integers(0, 400, 3):
                damaged[place % len(damaged)] = random.integers(0, 256)
            assert len(tuple(numbers(bytes(damaged)))) in (0, 2)


def test_a_grey_profile_changes_the_curve_of_grey_pictures() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = decode(_saved(Image.fromarray(ramp), icc_profile=grey(1.8))).image
    wanted = 255 * _encoded((ramp / 255.0) ** 1.8)
    assert np.abs(np.asarray(image)[..., 0] - wanted).max() <= 1.5  # rounding, and lcms's tables
    assert np.abs(wanted - ramp).max() > 8
    assert (np.ptp(np.asarray(image), axis=-1) <= 1).all()  # lcms goes through the white of D50


def test_sixteen_bit_grey_and_palettes_are_converted_as_well() -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    deep = decode(_saved(Image.fromarray(ramp), icc_profile=grey(1.8))).image
    usual = decode(_saved(Image.fromarray((ramp // 257).astype(np.uint8)), icc_profile=grey(1.8))).image
    assert np.array_equal(np.asarray(deep), np.asarray(usual))
    few = Image.fromarray(_pixels()).quantize(16)
    palette = decode(_saved(few, icc_profile=display_p3())).image
    assert np.array_equal(
        np.asarray(palette), np.asarray(decode(_saved(few.convert("RGB"), icc_profile=display_p3())).image)
    )


@pytest.mark.parametrize("by_numbers", [False, True])
def test_a_palette_is_written_again_with_its_profile_also_where_numbers_said_it(
    by_numbers: bool, tmp_path: Path
) -> None:
    few = Image.fromarray(_pixels()).quantize(16)
    content = _with_chunk(_saved(few), 12, 13) if by_numbers else _saved(few, icc_profile=display_p3())
    stored, seen = read_stored(content), np.asarray(decode(content).image)
    assert np.array_equal(stored.to_srgb(stored.pixels), seen)
    assert np.median(np.abs(stored.from_srgb(seen).astype(int) - stored.pixels)) <= 1  # few lie outside of sRGB
    stored.write(tmp_path / "written.png")
    assert np.array_equal(np.asarray(decode((tmp_path / "written.png").read_bytes()).image), seen)


def test_transparent_pictures_are_converted_before_they_are_laid_over_the_background() -> None:
    opaque, half = Image.fromarray(_pixels()), Image.fromarray(_pixels())
    half.putalpha(128)
    converted = np.asarray(decode(_saved(opaque, icc_profile=display_p3())).image, float)
    laid = decode(_saved(half, icc_profile=display_p3()))
    assert np.abs(np.asarray(laid.image) - converted * 128 / 255).max() <= 1
    assert laid.is_transparent and not decode(_saved(opaque)).is_transparent


def test_a_profile_that_cannot_be_used_is_passed_over_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(_pixels())
    for profile, said in (
        (b"no profile", "damaged profile (ignored)"),
        (display_p3()[:300], "damaged profile (ignored)"),
        (grey(1.8), "Gray Gamma 1.8 (for GRAY and not RGB, ignored)"),
    ):
        photograph = decode(_saved(image, "JPEG", icc_profile=profile))
        assert photograph.profile == said
        assert np.array_equal(np.asarray(photograph.image), np.asarray(decode(_saved(image, "JPEG")).image))
    monkeypatch.setattr(color_profiles, "MAX_PROFILE_BYTES", 100)
    assert decode(_saved(image, icc_profile=display_p3())).profile.endswith("(too large, ignored)")


def test_cmyk_without_a_profile_stays_the_complement_and_one_for_rgb_is_not_taken() -> None:
    image = Image.new("CMYK", (2, 2), (255, 0, 51, 0))
    photograph = decode(_saved(image, "TIFF", icc_profile=display_p3()))
    assert photograph.image.getpixel((0, 0)) == (0, 255, 204)
    assert photograph.profile == "Display P3 (for RGB and not CMYK, ignored)"


def test_what_a_file_says_of_its_colours_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str | None] = []
    found = color_profiles._numbers

    def look(image: Image.Image, content: bytes) -> tuple[int, ...]:
        looked.append(image.format)
        return found(image, content)

    monkeypatch.setattr(color_profiles, "_numbers", look)
    content = _with_chunk(_saved(Image.fromarray(_pixels())), 12, 13)
    assert decode(content).profile == "Display P3 by number, converted to sRGB"
    read_stored(content)
    assert looked == ["PNG", "PNG"]
