"""What becomes of image files of every mode and format, usable or not."""

import io
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.faces import decoding
from data.faces.decoding import color_of, decode, load, pillow_formats
from data.faces.files import open_faces


def _read_saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return np.asarray(open_faces(tmp_path).read(0))


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_lossless_formats_give_their_pixels_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    lossless = {"webp": {"lossless": True}, "jp2": {"irreversible": False}}
    for ending in ("png", "bmp", "dib", "tif", "webp", "jp2", "ppm"):
        options = lossless.get(ending, {})
        folder = tmp_path / ending
        folder.mkdir()
        assert np.array_equal(_read_saved(folder, Image.fromarray(pixels), f"x.{ending}", **options), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    # How a camera stores an upright scene for each value of the tag (EXIF 2.3, table of 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    assert np.array_equal(_read_saved(tmp_path, image, "x.png", exif=exif), upright)


def test_palette_and_grey_images_keep_their_colours(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    (tmp_path / "palette").mkdir()
    assert _read_saved(tmp_path / "palette", palette, "x.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]
    (tmp_path / "grey").mkdir()
    assert _read_saved(tmp_path / "grey", Image.new("L", (1, 1), 77), "x.png").tolist() == [[[77, 77, 77]]]
    (tmp_path / "bit").mkdir()
    assert _read_saved(tmp_path / "bit", Image.new("1", (1, 1), 1), "x.png").tolist() == [[[255, 255, 255]]]


def test_sixteen_bit_grey_is_scaled_to_eight_bits_with_rounding(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    read = _read_saved(tmp_path, Image.fromarray(values), "x.png")
    assert read[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_sixteen_bit_grey_of_netpbm_is_scaled_alike(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=">u2")
    (tmp_path / "x.pgm").write_bytes(b"P5 6 1 65535\n" + values.tobytes())
    assert np.asarray(open_faces(tmp_path).read(0))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def _deep(ending: str, channels: int, compression: int = 1) -> tuple[bytes, np.ndarray]:
    """A file of 16-bit colours as OpenCV writes it, and its values in RGB(A)."""
    pixels = np.random.default_rng(0).integers(0, 65536, (61, 47, channels), dtype=np.uint16)
    pixels[0, :4] = np.array([0, 128, 129, 65535])[:, None]
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression] if ending == "tif" else []
    content = cv2.imencode(f".{ending}", pixels[..., [2, 1, 0, 3][:channels]], options)[1].tobytes()
    return content, pixels


@pytest.mark.parametrize("size", [61 * 47, 100])
@pytest.mark.parametrize(("ending", "compression"), [("png", 1), ("tif", 1), ("tif", 5)])
def test_sixteen_bit_colour_is_rounded_to_eight_bits(
    ending: str, compression: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "STRIP_PIXELS", size)
    content, values = _deep(ending, 3, compression)
    photograph = decode(content)
    assert photograph.mode == "RGB;16"
    assert np.array_equal(np.asarray(photograph.image), np.rint(values * (255 / 65535)))
    assert np.any(values >> 8 != np.asarray(photograph.image))  # what Pillow alone would give


def test_sixteen_bit_colour_and_grey_with_transparency_are_rounded() -> None:
    content, values = _deep("png", 4)
    image, mode = load(content)
    assert mode == "RGBA;16" and np.array_equal(np.asarray(image), np.rint(values * (255 / 65535)))
    rows = b"".join(b"\0" + row.tobytes() for row in values[..., [0, 3]].astype(">u2"))
    header = struct.pack(">IIBBBBB", 47, 61, 16, 4, 0, 0, 0)  # grey with opacity, which OpenCV does not write
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    image, mode = load(b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks))
    assert np.array_equal(np.asarray(image), np.rint(values[..., [0, 0, 0, 3]] * (255 / 65535)))


def test_cmyk_becomes_the_complement(tmp_path: Path) -> None:
    read = _read_saved(tmp_path, Image.new("CMYK", (1, 1), (255, 0, 51, 0)), "x.tif")
    assert read.tolist() == [[[0, 255, 204]]]


def test_transparent_images_are_laid_over_black(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    for column, alpha in enumerate((0, 51, 255)):
        image.putpixel((column, 0), (200, 100, 50, alpha))
    assert _read_saved(tmp_path, image, "x.png").tolist() == [[[0, 0, 0], [40, 20, 10], [200, 100, 50]]]


def test_another_background_stays_with_the_set_and_shows_where_pictures_are_transparent(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    for column, alpha in enumerate((0, 51, 255)):
        image.putpixel((column, 0), (200, 100, 50, alpha))
    image.save(tmp_path / "a.png")
    image.convert("RGB").save(tmp_path / "b.png")
    for color in ("#F0A014", " orange"):
        beneath = np.array(color_of(color))
        faces = pickle.loads(pickle.dumps(open_faces(tmp_path, color).take(slice(0, 2))))
        expected = [beneath, np.rint((4 * beneath + (200, 100, 50)) / 5), [200, 100, 50]]
        assert np.abs(np.asarray(faces.read(0), int) - np.array([expected])).max() <= 1  # Pillow's rounding
        assert np.array_equal(np.asarray(faces.read(0))[0, [0, 2]], [beneath, [200, 100, 50]])
        assert np.array_equal(np.asarray(faces.read(1)), np.full((1, 3, 3), (200, 100, 50)))


@pytest.mark.parametrize("text", ["", "none", "#12345", "12345678", "#ffffff80", "rgb(300,0,0)", "#gggggg"])
def test_what_is_no_colour_is_refused_with_what_one_looks_like(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a background must be '#rrggbb' or a color's name such as white, got '"):
        open_faces(tmp_path, text)


def test_a_transparent_colour_of_an_rgb_image_becomes_black(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert _read_saved(tmp_path, image, "x.png", transparency=(1, 2, 3)).tolist() == [[[0, 0, 0], [9, 9, 9]]]


def test_float_images_are_refused_because_their_range_is_unknown(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="mode F"):
        open_faces(tmp_path).read(0)


# --- refusing


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the header is whole: decoding would complain about the missing pixels instead.
    (tmp_path / "huge.png").write_bytes(_saved(Image.new("RGB", (100, 100)), "PNG")[:60])
    monkeypatch.setattr(decoding, "MAX_PIXELS", 9_999)
    with pytest.raises(ValueError, match="100 x 100 pixels, more than the 9999 allowed"):
        open_faces(tmp_path).read(0)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10_000)
    with pytest.raises(ValueError, match=r"^it is empty$"):
        decode(b"")
    with pytest.raises(ValueError, match="truncated"):
        open_faces(tmp_path).read(0)


def test_formats_that_would_start_another_program_are_refused_under_any_name(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "disguised.jpg", "EPS")
    with pytest.raises(ValueError, match="cannot identify image file"):
        open_faces(tmp_path).read(0)


# --- every kind of file that may lie among faces


def _animation(format: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), (red, 0, 0)) for red in (10, 20)]
    return _saved(frames[0], format, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF", "GIF"])
def test_animations_are_refused_because_they_are_no_photographs(format: str) -> None:
    with pytest.raises(ValueError, match="it is animated; store one frame as an image"):
        decode(_animation(format))


@pytest.mark.parametrize("format", ["MPO", "TIFF"])
def test_of_a_file_with_previews_behind_the_photograph_the_first_picture_is_taken(format: str) -> None:
    photograph = decode(_animation(format))
    assert photograph.format == format
    assert photograph.image.getpixel((0, 0))[0] in range(8, 13)


def test_avif_and_heic_are_read_within_what_their_compression_loses() -> None:
    smooth = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    formats = ["AVIF"] + (["HEIF"] if "HEIF" in pillow_formats() else [])
    for format in formats:
        photograph = decode(_saved(smooth, format, quality=95))
        assert photograph.format == format
        assert np.abs(np.asarray(photograph.image, int) - np.asarray(smooth, int)).mean() < 1


def test_a_heic_file_under_another_name_is_told_from_damaged_ones_where_it_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "reads_heif", lambda: False)
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic", b"hevc\0\0\0\0hevc"):
        with pytest.raises(
            ValueError, match=r"it is a HEIC file, whatever its name; pip install pillow-heif reads them"
        ):
            decode(b"\0\0\0\x18ftyp" + brands + bytes(100))
    with pytest.raises(ValueError, match="cannot identify image file"):
        decode(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + bytes(100))


def test_formats_and_modes_are_told_as_they_are_stored() -> None:
    for mode, format, stored in (
        ("RGB", "JPEG", "RGB"),
        ("CMYK", "JPEG", "CMYK"),
        ("L", "PNG", "L"),
        ("P", "PNG", "P"),
        ("I;16", "PNG", "I;16"),
        ("RGBA", "WEBP", "RGBA"),
    ):
        photograph = decode(_saved(Image.new(mode, (4, 4)), format))
        assert photograph.image.mode == "RGB"
        assert (photograph.format, photograph.mode) == (format, stored)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header)


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 0), (0, 0)])
def test_an_image_without_pixels_is_refused(width: int, height: int) -> None:
    content = _png_header(width, height) + _png_chunk(b"IDAT", zlib.compress(b"")) + _png_chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="header is damaged"):
        decode(content)


def test_decompression_bombs_are_refused_before_memory_is_taken() -> None:
    rows = zlib.compress(bytes(50_000_000), 9)  # 48 kB of the 50 GB that the header announces
    gigapixels = _png_header(130_000, 130_000) + _png_chunk(b"IDAT", rows) + _png_chunk(b"IEND", b"")
    bitmap = bytearray(_saved(Image.new("RGB", (8, 8)), "BMP"))
    bitmap[18:26] = struct.pack("<ii", 10_000, 10_000)
    for content, reason in ((gigapixels, "decompression bomb"), (bytes(bitmap), "more than the 80000000 allowed")):
        with pytest.raises(ValueError, match=reason):
            decode(content)


def test_compressed_text_beside_the_pixels_is_not_expanded() -> None:
    text = _png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 1))
    pixels = _png_chunk(b"IDAT", zlib.compress(bytes(8 * 25))) + _png_chunk(b"IEND", b"")
    tracemalloc.start()
    with pytest.raises(ValueError, match="Decompressed data too large"):
        decode(_png_header(8, 8) + text + pixels)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


# --- what decoding may cost


def _with_scans(number: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    content = _saved(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * number + b"\xff\xd9"


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded() -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match="it is a JPEG of 101 scans, more than the 100 allowed; store it anew"):
        decode(_with_scans(12_000))
    assert time.perf_counter() - start < 2
    assert decode(_with_scans(50)).image.size == (64, 64)


def test_scans_are_those_of_the_picture_and_not_of_a_preview_in_its_metadata() -> None:
    metadata = Image.Exif()
    metadata[0x010E] = "\xff\xda" * 200  # a description in which markers stand
    assert decode(_saved(Image.new("RGB", (8, 8)), "JPEG", exif=metadata)).format == "JPEG"
    assert decoding._scans(_saved(Image.new("RGB", (8, 8)), "JPEG")) == (1, False)
    num_scans, is_progressive = decoding._scans(_saved(Image.new("RGB", (8, 8)), "JPEG", progressive=True))
    assert num_scans > 1 and is_progressive


MEMORY = """
import os, re, sys
from pathlib import Path
from data.faces.decoding import decode
content = Path(sys.argv[1]).read_bytes()
def now(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
decode(Path(sys.argv[2]).read_bytes())  # what the libraries take
Path("/proc/self/clear_refs").write_text("5")
before = now("VmRSS")
decode(content)
print(now("VmHWM") - before)
"""
KINDS: dict[str, tuple[str, str, dict[str, object], float]] = {
    "transparent PNG": ("RGBA", "PNG", {}, 9),
    "turned transparent PNG": ("RGBA", "PNG", {"orientation": 6}, 9),
    "16-bit PNG": ("I;16", "PNG", {}, 9),
    "16-bit colour PNG": ("RGB;16", "PNG", {}, 9),
    "JPEG": ("RGB", "JPEG", {}, 9),
    "progressive CMYK JPEG": ("CMYK", "JPEG", {"progressive": True, "subsampling": 0}, 12),
    "transparent AVIF": ("RGBA", "AVIF", {"speed": 10, "subsampling": "4:4:4"}, 20),
    "transparent JPEG 2000": ("RGBA", "JPEG2000", {}, 30),
    "HEIC": ("RGB", "HEIF", {"quality": -1}, 14),
    "transparent HEIC": ("RGBA", "HEIF", {}, 14),
    "lossless WebP": ("RGBA", "WEBP", {"lossless": True, "method": 0}, 18),
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux' /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_takes_no_more_memory_than_stated(kind: str, tmp_path: Path) -> None:
    mode, format, options, bytes_per_pixel = KINDS[kind]
    if format == "HEIF" and format not in pillow_formats():
        pytest.skip("pillow-heif is not installed")
    options = dict(options)
    if orientation := options.pop("orientation", None):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation  # type: ignore[index]
    if mode == "RGB;16":  # which Pillow does not write
        for name, side in (("large", 3000), ("small", 8)):
            content = cv2.imencode(".png", np.zeros((side, side, 3), np.uint16))[1]
            (tmp_path / name).write_bytes(content.tobytes())
    else:
        Image.new(mode, (3000, 3000)).save(tmp_path / "large", format, **options)
        Image.new(mode, (8, 8)).save(tmp_path / "small", format)
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "large"), str(tmp_path / "small")]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    strips = 24 * decoding.STRIP_PIXELS  # as large for every size of image
    assert int(done.stdout) < bytes_per_pixel * 3000**2 + strips
    assert decoding.MAX_DECODED_BYTES == 720_000_000


def test_formats_whose_decoders_keep_more_may_have_fewer_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_DECODED_BYTES", 9 * 10_000)
    assert decode(_saved(Image.new("RGB", (100, 100)), "PNG")).image.size == (100, 100)
    for format, options, most in (("WEBP", {}, 5_000), ("JPEG", {"progressive": True}, 7_500)):
        with pytest.raises(ValueError, match=f"100 x 100 pixels, more than the {most} allowed in a "):
            decode(_saved(Image.new("RGB", (100, 100)), format, **options))
