"""Whatever lies among the faces is an image, or is refused with its name."""

import io
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.faces.files import open_faces

Damage = Callable[[st.DataObject, bytes], bytes]


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, format, **options)  # Pillow leaves traces of an encoder in what it saved
    return buffer.getvalue()


def real_files() -> dict[str, bytes]:
    """Files of every format and of most modes, as programs write them."""
    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a face"
    with_gps = exif.get_ifd(0x8825)
    with_gps[1] = "N"
    frames = [colour.rotate(angle) for angle in (90, 180)]
    several = {"save_all": True, "append_images": frames}
    pages = {"save_all": True, "append_images": [frame.copy() for frame in frames]}
    return {
        "JPEG": saved(colour, "JPEG", exif=exif, comment=b"x" * 99),
        "progressive JPEG": saved(colour, "JPEG", progressive=True, quality=90),
        "CMYK JPEG": saved(colour.convert("CMYK"), "JPEG"),
        "MPO": saved(colour, "MPO", **several),
        "PNG": saved(colour, "PNG", exif=exif),
        "palette PNG": saved(colour.quantize(16), "PNG", transparency=3),
        "16-bit PNG": saved(Image.fromarray(random.integers(0, 65536, (9, 8), dtype=np.uint16)), "PNG"),
        "animated PNG": saved(colour, "PNG", **several),
        "WebP": saved(colour, "WEBP", exif=exif),
        "lossless WebP": saved(colour.convert("RGBA"), "WEBP", lossless=True),
        "animated WebP": saved(colour, "WEBP", **several),
        "BMP": saved(colour, "BMP"),
        "palette BMP": saved(colour.quantize(16), "BMP"),
        "TIFF": saved(colour, "TIFF"),
        "LZW TIFF": saved(colour, "TIFF", compression="tiff_lzw"),
        "JPEG TIFF": saved(colour, "TIFF", compression="jpeg"),
        "fax TIFF": saved(colour.convert("1"), "TIFF", compression="group4"),
        "pages TIFF": saved(colour, "TIFF", **pages),
    }


REAL_FILES = real_files()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes one file after the other."""
    return tmp_path_factory.mktemp("faces")


def check_file(folder: Path, content: bytes, tally: Counter[str], kind: str) -> None:
    """The file is decoded to 8-bit RGB, or refused in one line with its name."""
    (folder / "face.png").write_bytes(content)
    try:
        image = open_faces(folder).read(0)
    except ValueError as error:
        tally[f"{kind} refused"] += 1
        assert f"{folder}/face.png" in str(error)
        return
    tally[f"{kind} decoded"] += 1
    pixels = np.asarray(image)
    assert image.mode == "RGB" and pixels.dtype == np.uint8 and pixels.size > 0


@given(data=st.data(), name=st.sampled_from(sorted(REAL_FILES)))
def test_damaged_images_are_decoded_or_named(
    data: st.DataObject, name: str, damage: Damage, folder: Path, tally: Counter[str]
) -> None:
    check_file(folder, damage(data, REAL_FILES[name]), tally, "damaged images")


HEADS = (
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\xff\0\0\0WEBPVP8 ",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"GIF89a",
    b"%!PS",
)


@given(head=st.sampled_from(HEADS), rest=st.binary(max_size=400))
def test_random_bytes_are_decoded_or_named(head: bytes, rest: bytes, folder: Path, tally: Counter[str]) -> None:
    check_file(folder, head + rest, tally, "random bytes as images")


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for index, name in enumerate(("PNG", "JPEG", "BMP")):
            file.writestr(f"00000/img{index:08}.png", REAL_FILES[name])
        file.writestr("dataset.json", b"{}")
    return buffer.getvalue()


@given(data=st.data())
def test_damaged_zips_are_read_or_named(
    data: st.DataObject, damage: Damage, tmp_path_factory: pytest.TempPathFactory, tally: Counter[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "faces.zip"
    path.write_bytes(damage(data, archive()))
    try:
        faces = open_faces(path)
        for index in range(len(faces)):
            faces.read(index)
    except ValueError as error:
        tally["damaged zips refused"] += 1
        assert str(path) in str(error)
        return
    tally["damaged zips read"] += 1


PARTS = st.sampled_from(["", ".", "..", "a", "b.png", "C:", "~", "\\", "\x00", "é", " ", "con.png"])
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)


@given(names=st.lists(NAMES, min_size=1, max_size=6), link=st.booleans())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_member_of_a_zip_lies_outside_it_whatever_its_name(
    names: list[str], link: bool, tmp_path_factory: pytest.TempPathFactory, tally: Counter[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "names.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            member = zipfile.ZipInfo(f"{name}.png")
            member.external_attr = (0o120777 if link else 0o100644) << 16
            file.writestr(member, REAL_FILES["PNG"])
    try:
        faces = open_faces(path)
    except ValueError as error:
        tally["zips of random names refused"] += 1
        assert str(path) in str(error)
        return
    tally["zips of random names listed"] += 1
    assert not link and len(set(faces.names)) == len(faces.names)
    inside = Path("/folder")
    for name in faces.names:
        assert (inside / name).resolve().is_relative_to(inside)
