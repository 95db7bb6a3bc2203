"""The whole way on a group photograph of drawn faces: found, restored, put back, stored as before."""

import os
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFilter
from torch import Tensor

from data.faces.decoding import pillow_formats
from data.faces.files import open_faces
from inference.restorers import Restorer
from photographs.options import Choice, Pasting
from photographs.restoration.pasting import Backgrounds
from photographs.restoration.record import Record
from photographs.restoration.restoration import PhotoRestorer
from photographs.restoration.stored import read_stored
from scripts.restore_photos import main
from system.machine import ROOT
from tests.fixtures.color_profiles import display_p3
from tests.photographs.conftest import GroupPhoto
from tests.photographs.group_picture import draw

ALL = Choice(most_lost_levels=255)


def restore(
    photos: Path,
    output: Path,
    network: Callable[[Tensor], Tensor],
    choice: Choice,
    pasting: Pasting,
    background: str = "black",
) -> list:
    restorer = Restorer(64, "test", torch.device("cpu"), network, None)
    photo_restorer = PhotoRestorer(restorer, 4, choice, pasting, output, Record(output, {}))
    return list(photo_restorer.run(open_faces(photos, background)))


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_network_that_changes_nothing_returns_the_photograph(group_photo: GroupPhoto, tmp_path: Path) -> None:
    Image.fromarray(group_photo.pixels).save(tmp_path / "group.png")
    (record,) = restore(tmp_path / "group.png", tmp_path / "out", lambda faces: faces, ALL, Pasting())
    assert len(record.faces) == 5 and all(face.left_alone == "" for face in record.faces)
    assert np.abs(pixels_of(tmp_path / "out" / "group.png") - group_photo.pixels).max() <= 1


def test_restored_faces_change_the_faces_and_nothing_else(group_photo: GroupPhoto, tmp_path: Path) -> None:
    Image.fromarray(group_photo.pixels).save(tmp_path / "group.png")
    restore(tmp_path / "group.png", tmp_path / "out", lambda faces: -faces, ALL, Pasting(side_by_side=True))
    written = pixels_of(tmp_path / "out" / "group.png")
    far = np.ones(written.shape[:2], dtype=bool)
    for x, y, side, _ in group_photo.places:
        reach = round(0.75 * side)
        far[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach] = False
        middle = slice(y - side // 8, y + side // 8), slice(x - side // 8, x + side // 8)
        inverted = 255 - group_photo.pixels[middle].astype(int).mean(axis=(0, 1))
        assert np.abs(written[middle].mean(axis=(0, 1)) - inverted).max() < 30
    assert far.any() and np.array_equal(written[far], group_photo.pixels[far])
    pair = pixels_of(tmp_path / "out" / "side_by_side" / "group.png.png")
    assert np.array_equal(pair, np.concatenate([group_photo.pixels, written], axis=1))


def test_sharp_faces_larger_than_the_model_and_tiny_ones_are_left_alone_with_the_reason(
    group_photo: GroupPhoto, tmp_path: Path
) -> None:
    x, y, side, _ = group_photo.places[2]
    pixels = np.array(Image.fromarray(group_photo.pixels).filter(ImageFilter.GaussianBlur(2)))
    grain = np.random.default_rng(0).normal(0, 12, (side, side, 1))
    part = pixels[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2]
    part[:] = (part + grain).clip(0, 255).round()
    Image.fromarray(pixels).save(tmp_path / "group.png")
    choice = Choice(smallest_share=1.2)  # of 64 pixels
    (record,) = restore(tmp_path / "group.png", tmp_path / "out", lambda faces: -faces, choice, Pasting())
    reasons = {round(face.side_pixels): face.left_alone.partition(":")[0] for face in record.faces}
    assert [reasons[side] for side in sorted(reasons)] == ["too small", "too small", "", "", "better than the model"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "avif", "jp2"])
def test_size_format_orientation_metadata_and_profile_are_kept(
    group_photo: GroupPhoto, tmp_path: Path, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # lies on its side
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    is_plain = suffix in ("bmp", "jp2")  # of which Pillow writes the pixels alone
    options = {} if is_plain else {"exif": exif, "icc_profile": profile}
    if suffix == "webp":
        options["lossless"] = True
    stored = Image.fromarray(group_photo.pixels)
    stored = stored if is_plain or suffix == "tiff" else stored.transpose(Image.Transpose.ROTATE_90)
    if suffix == "tiff":
        exif[0x0112] = 1
    stored.save(tmp_path / f"photo.{suffix}", **options, **({"quality": 95} if suffix == "jpg" else {}))
    (record,) = restore(tmp_path / f"photo.{suffix}", tmp_path / "out", lambda faces: faces, ALL, Pasting())
    assert len(record.faces) == 5 and record.notes == []
    with Image.open(tmp_path / f"photo.{suffix}") as before, Image.open(tmp_path / "out" / f"photo.{suffix}") as after:
        assert after.size == before.size and after.format == before.format and after.mode == before.mode
        assert after.info.get("icc_profile") == before.info.get("icc_profile")
        assert after.getexif().get(0x010F) == before.getexif().get(0x010F)
        assert after.getexif().get(0x0112, 1) == before.getexif().get(0x0112, 1)
        if suffix == "jpg":
            assert after.quantization == before.quantization
        changed = np.abs(np.asarray(after).astype(int) - np.asarray(before))
        assert changed.max() <= (12 if suffix in ("jpg", "avif") else 0)
        assert changed.mean() < (1 if suffix == "avif" else 0.1)


def test_a_phones_heic_becomes_an_upright_png_with_its_metadata(group_photo: GroupPhoto, tmp_path: Path) -> None:
    if "HEIF" not in pillow_formats():
        pytest.skip("pillow-heif is not installed")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    profile = display_p3()
    lying = Image.fromarray(group_photo.pixels).transpose(Image.Transpose.ROTATE_90)
    lying.info["exif"] = exif.tobytes()  # where the plugin takes it from to turn the picture, as phones do
    lying.save(tmp_path / "IMG_1.HEIC", quality=95, icc_profile=profile)
    (record,) = restore(tmp_path / "IMG_1.HEIC", tmp_path / "out", lambda faces: faces, ALL, Pasting())
    assert len(record.faces) == 5 and record.notes == ["HEIF is written as PNG"]
    with Image.open(tmp_path / "out" / "IMG_1.HEIC.png") as after:
        assert after.getexif().get(0x0112, 1) == 1 and after.getexif()[0x010F] == "a camera"
        assert after.info["icc_profile"] == profile
        assert np.abs(np.asarray(after).astype(int) - group_photo.pixels).mean() < 2


@pytest.mark.parametrize(("background", "level"), [("black", -1), ("white", 1)])
def test_transparent_places_show_the_background_to_the_network_and_stay_as_they_are(
    group_photo: GroupPhoto, tmp_path: Path, background: str, level: float
) -> None:
    opacity = np.zeros(group_photo.pixels.shape[:2], dtype=np.uint8)
    for x, y, side, _ in group_photo.places:
        opacity[y - side // 3 : y + side // 3, x - side // 3 : x + side // 3] = 255
    stored = np.dstack([group_photo.pixels, opacity])
    Image.fromarray(stored).save(tmp_path / "cut.png")
    seen: list[Tensor] = []

    def network(faces: Tensor) -> Tensor:
        seen.append(faces)
        return faces if len(seen) <= 2 else -faces  # two batches of five faces

    pasting = Pasting(side_by_side=True)
    for output in ("same", "inverted"):
        (record,) = restore(tmp_path / "cut.png", tmp_path / output, network, ALL, pasting, background)
        assert len(record.faces) == 5 and record.notes == []
    shown = torch.cat(seen[:2])[:, :, 2:6, 2:6]  # corners of faces, which are cut out more narrowly
    assert (shown == level).float().mean() > 0.9
    with Image.open(tmp_path / "same" / "cut.png") as image:
        assert np.array_equal(np.asarray(image), stored)
    with Image.open(tmp_path / "inverted" / "cut.png") as image:
        inverted = np.asarray(image)
    assert np.array_equal(inverted[..., 3], opacity)
    for x, y, _, _ in group_photo.places:
        middle = 255 - group_photo.pixels[y - 4 : y + 4, x - 4 : x + 4].astype(int).mean(axis=(0, 1))
        assert np.abs(inverted[y - 4 : y + 4, x - 4 : x + 4, :3].mean(axis=(0, 1)) - middle).max() < 30
    pair = pixels_of(tmp_path / "same" / "side_by_side" / "cut.png.png")
    assert (pair[0, 0] == 127.5 * (level + 1)).all()


def test_a_photograph_without_faces_is_copied_to_the_byte_and_a_broken_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (200, 100), (9, 99, 200)).save(tmp_path / "in" / "sea.jpg")
    (tmp_path / "in" / "torn.jpg").write_bytes((tmp_path / "in" / "sea.jpg").read_bytes()[:300])
    sea, torn = restore(tmp_path / "in", tmp_path / "out", lambda faces: faces, ALL, Pasting())
    assert (tmp_path / "out" / "sea.jpg").read_bytes() == (tmp_path / "in" / "sea.jpg").read_bytes()
    assert sea.problem == "" and torn.problem and not (tmp_path / "out" / "torn.jpg").exists()


def test_faces_are_put_into_the_enlarged_background(group_photo: GroupPhoto, tmp_path: Path) -> None:
    Image.fromarray(group_photo.pixels).save(tmp_path / "group.png")
    enlarged = Image.fromarray(group_photo.pixels).resize((1280, 880), Image.Resampling.BICUBIC)
    (tmp_path / "large").mkdir()
    enlarged.save(tmp_path / "large" / "group.webp", lossless=True)
    pasting = Pasting(background=tmp_path / "large")
    restore(tmp_path / "group.png", tmp_path / "out", lambda faces: torch.ones_like(faces), ALL, pasting)
    written = pixels_of(tmp_path / "out" / "group.png")
    assert written.shape == (880, 1280, 3)
    for x, y, _, _ in group_photo.places:
        assert written[2 * y - 4 : 2 * y + 4, 2 * x - 4 : 2 * x + 4].mean() > 230
    assert np.array_equal(written[:20], np.asarray(enlarged)[:20])


def test_backgrounds_are_found_in_an_archive_by_name_and_one_picture_is_none_for_two(tmp_path: Path) -> None:
    names = ("a.png", "\u00e9.png")
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        for level, name in enumerate(names, 1):
            Image.new("RGB", (8, 8)).save(tmp_path / name)
            Image.new("RGB", (16, 16), (level, 0, 0)).save(tmp_path / f"large{level}.png")
            archive.write(tmp_path / f"large{level}.png", unicodedata.normalize("NFD", name))
    photo = read_stored((tmp_path / "a.png").read_bytes())
    backgrounds = Backgrounds(tmp_path / "large.zip")
    backgrounds.check(2)
    assert [backgrounds.find(name, photo)[0].pixels[0, 0, 0] for name in names] == [1, 2]
    one = Backgrounds(tmp_path / "large2.png")
    one.check(1)
    assert one.find("a.png", photo)[0].pixels[0, 0, 0] == 2
    with pytest.raises(ValueError, match=r"large2\.png is one picture for 2 photographs; name the folder"):
        one.check(2)


@pytest.mark.parametrize(
    ("name", "written", "format"),
    [("a.jpg", "a.jpg", "JPEG"), ("a.TIF", "a.TIF", "TIFF"), ("a.bmp", "a.bmp", "BMP"), ("a.gif", "a.gif.png", "PNG")],
)
def test_a_photograph_keeps_its_format_whatever_the_backgrounds(
    group_photo: GroupPhoto, tmp_path: Path, name: str, written: str, format: str
) -> None:
    photo = Image.fromarray(group_photo.pixels)
    photo.save(tmp_path / name)
    (tmp_path / "large").mkdir()
    photo.resize((1280, 880)).convert("RGBA").save(tmp_path / "large" / "a.webp", lossless=True)
    pasting = Pasting(background=tmp_path / "large")
    (record,) = restore(tmp_path / name, tmp_path / "out", lambda faces: -faces, ALL, pasting)
    assert record.written == written
    with Image.open(tmp_path / "out" / written) as image:
        assert image.format == format and image.size == (1280, 880)


def test_the_command_restores_continues_and_refuses_other_settings(
    group_photo: GroupPhoto, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    Image.fromarray(group_photo.pixels).save(tmp_path / "in" / "a.png")
    Image.fromarray(group_photo.pixels[:240]).save(tmp_path / "in" / "b" / "c.png")
    words = [tmp_path / "in", "--output", tmp_path / "out", "--device", "cpu", "--most_lost_levels", "255"]
    code, out, err = run(main, *words)
    assert code == 0, err
    assert "2 photographs written, 8 faces restored" in out
    first = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    (tmp_path / "out" / "b" / "c.png").unlink()
    code, out, _ = run(main, *words)
    assert code == 0 and "2 photographs written, 8 faces restored" in out
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == first and (tmp_path / "out" / "b" / "c.png").is_file()
    code, _, err = run(main, *words, "--strength", "0.5")
    assert code == 2 and "with other settings" in err
    code, _, err = run(main, *words, "--strength", "2", "--overwrite")
    assert (code, err) == (2, "error: --strength must be from 0 to 1, got 2\n")
    code, _, err = run(main, *words, "--batch_size", "0", "--overwrite")
    assert (code, err) == (2, "error: --batch_size must be at least 1, got 0\n")
    assert (tmp_path / "out" / "restored_photographs.jsonl").is_file()


@pytest.mark.slow
def test_the_picture_of_the_documents_is_what_its_command_draws() -> None:
    with Image.open(ROOT / "docs" / "pictures" / "photographs.jpg") as picture:
        shown = np.asarray(picture).astype(int)
    drawn = draw()
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 3  # JPEG; levels of 255


MEMORY = """
import re, sys
from pathlib import Path
import torch
from data.faces.files import open_faces
from inference.restorers import Restorer
from photographs.options import Choice, Pasting
from photographs.restoration.pasting import Backgrounds
from photographs.restoration.record import Record
from photographs.restoration.restoration import PhotoRestorer
from photographs.restoration.stored import read_stored
def now(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
photos, output = map(Path, sys.argv[1:])
network, record = Restorer(64, "test", torch.device("cpu"), lambda faces: -faces, None), Record(output, {})
restorer = PhotoRestorer(network, 64, Choice(most_lost_levels=255), Pasting(), output, record)
before, peaks = now("VmRSS"), []
records = list(restorer.run(open_faces(photos), on_progress=lambda done: peaks.append((done, now("VmHWM") - before))))
print(next(peak for done, peak in peaks if done >= 8), peaks[-1][1], sum(len(one.faces) for one in records))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by Linux' /proc")
def test_memory_does_not_grow_with_the_number_of_photographs(group_photo: GroupPhoto, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(group_photo.pixels).resize((4000, 2750)).save(tmp_path / "in" / "00.jpg")
    for index in range(1, 16):
        os.link(tmp_path / "in" / "00.jpg", tmp_path / "in" / f"{index:02}.jpg")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "in"), str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    after_eight, after_all, num_faces = map(int, done.stdout.split())
    assert num_faces == 16 * 5
    assert after_all - after_eight < 60 and after_all < 750  # MiB; one decoded photograph has 34 to 46
