"""Photographs of drawn faces to a set: what is kept, why the others are not, who is held out, going on."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data.faces.files import FaceFiles, open_faces
from photographs.faces.alignment import align, square_of
from photographs.faces.detection import DetectedFace
from photographs.options import Selection, Split
from photographs.preparation.manifest import Manifest, PhotoLine
from photographs.preparation.preparation import FacePreparer
from photographs.preparation.selection import (
    PerceptualHashes,
    parts_of,
    people_of,
    reject_by_pixels,
    reject_by_place,
    sharpness,
)
from scripts.prepare_faces import main
from tests.photographs.conftest import GroupPhoto

EASY = Selection(smallest_share=0.5, most_turn=10, most_padding=1, least_sharpness=0, least_difference=0)
POINTS = np.array([[80.0, 90], [120, 90], [100, 110], [85, 130], [115, 130]])
"""A face from the front, its square 160 pixels wide around (100, 94)."""


def prepare(photos: Path, output: Path, selection: Selection) -> list[PhotoLine]:
    return FacePreparer(64, selection, Split(), Manifest(output, {})).run(open_faces(photos))


def portrait(group_photo: GroupPhoto) -> Image.Image:
    """The largest face of the group with what is around it."""
    x, y, side, _ = group_photo.places[2]
    return Image.fromarray(group_photo.pixels).crop((x - side // 2, y - side // 2, x + side // 2, y + side // 2))


def test_a_kept_face_is_the_aligned_one_and_the_manifest_says_where_it_was(
    group_photo: GroupPhoto, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    (tmp_path / "in").mkdir()
    lying = portrait(group_photo).transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "in" / "a.png", exif=exif)
    (line,) = prepare(tmp_path / "in", tmp_path / "out", EASY)
    (face,) = line.faces
    assert (line.source, face.kept_as, face.rejected) == ("a.png", "train/a.png_0.png", "")
    square = square_of(np.array(face.points))
    assert face.native_pixels == pytest.approx(square.side_pixels, abs=0.1)
    assert face.native_pixels == pytest.approx(group_photo.places[2][2], rel=0.15)
    upright = np.asarray(portrait(group_photo)).copy()
    expected = align(upright, square, 64)
    with Image.open(tmp_path / "out" / face.kept_as) as image:
        written = np.asarray(image).astype(int)
    assert written.shape == (64, 64, 3) and np.abs(written - expected).mean() < 1  # points are rounded in the manifest


@pytest.mark.parametrize(
    ("changes", "nose", "size", "reason"),
    [
        ({}, 0, (200, 200), ""),
        ({"smallest_share": 2.6}, 0, (200, 200), "too small: 160 pixels, at least 166 are needed"),
        ({"most_turn": 0.7}, 16, (200, 200), "turned too far: 0.80, at most 0.7 is allowed"),
        ({"most_turn": 0.81}, 16, (200, 200), ""),
        # The square spans 20 to 180: of a photograph 140 wide a quarter of it is missing.
        ({"most_padding": 0.2}, 0, (140, 200), "mostly padding: 25% outside of the photograph, at most 20% may be"),
        ({"most_padding": 0.26}, 0, (140, 200), ""),
    ],
)
def test_faces_are_rejected_for_their_place(
    changes: dict[str, float], nose: float, size: tuple[int, int], reason: str
) -> None:
    points = POINTS.copy()
    points[2, 0] += nose
    face = DetectedFace(points, 1.0)
    assert face.square.side_pixels == pytest.approx(160)
    assert reject_by_place(face, *size, 64, replace(EASY, **changes)) == reason


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    stripes = np.zeros((40, 40, 3), dtype=np.uint8)
    stripes[:, ::2] = 100  # second differences are -200 and 200
    assert sharpness(stripes) == pytest.approx(200**2)
    assert sharpness(np.full((40, 40, 3), 77, dtype=np.uint8)) == 0


def test_blurred_and_grey_faces_are_rejected_where_this_is_asked_for(group_photo: GroupPhoto) -> None:
    face = portrait(group_photo).resize((64, 64), Image.Resampling.LANCZOS)
    pixels = np.array(face)
    blurred = np.array(face.filter(ImageFilter.GaussianBlur(3)))
    grey = np.array(face.convert("L").convert("RGB"))
    choice = replace(EASY, least_sharpness=sharpness(pixels) / 2, reject_grey=True)
    assert [reject_by_pixels(one, choice).partition(":")[0] for one in (pixels, blurred, grey)] == [
        "",
        "blurred",
        "grey",
    ]
    assert reject_by_pixels(blurred, EASY) == "" and reject_by_pixels(grey, EASY) == ""


def test_the_nearest_hash_is_that_with_the_fewest_other_bits() -> None:
    hashes = PerceptualHashes()
    assert hashes.nearest("00000000000000fe") == ("", 65)
    for number in range(2000):  # more than there is room for at first
        hashes.add(f"ffffffff{number + 2**31:08x}", str(number))
    for name, digits in (("a", "ffffffffffffffff"), ("b", "00000000000000ff"), ("c", "0000000000000003")):
        hashes.add(digits, name)
    assert hashes.nearest("0000000000000000") == ("c", 2)
    assert hashes.nearest("00000000000000fe") == ("b", 1)
    assert hashes.nearest("ffffffff800007cf") == ("1999", 0)


def test_a_photograph_stored_again_is_a_duplicate_and_other_faces_are_not(
    group_photo: GroupPhoto, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    photo = Image.fromarray(group_photo.pixels)
    photo.save(tmp_path / "in" / "a.png")
    photo.save(tmp_path / "in" / "b.jpg", quality=80)
    first, second = prepare(tmp_path / "in", tmp_path / "out", replace(EASY, least_difference=6))
    assert len(first.kept()) == 5
    assert not second.kept() and len(second.faces) == 5
    pairs = zip(first.faces, second.faces, strict=True)
    assert all(there.rejected.endswith(f"of 64 bits differ from {here.kept_as}") for here, there in pairs)


def test_nobody_is_in_both_parts_and_everybody_stays_in_theirs() -> None:
    names = [f"person {i}/{j}.jpg" for i in range(40) for j in range(3)]
    assert people_of(names)[:4] == ["person 0"] * 3 + ["person 1"]
    assert people_of(["a.jpg", "b.jpg"]) == ["a.jpg", "b.jpg"]
    parts = parts_of(people_of(names), 0.1, {})
    assert sorted(parts.values()) == ["train"] * 36 + ["val"] * 4
    assert parts_of(list(reversed(people_of(names))), 0.1, {}) == parts
    assert sorted(parts_of(["a", "b"], 0.01, {}).values()) == ["train", "val"]
    assert set(parts_of(["a", "b"], 0, {}).values()) == {"train"}
    more = parts_of([*people_of(names), *(f"new {i}" for i in range(40))], 0.1, parts)
    assert {name: more[name] for name in parts} == parts


def test_the_command_goes_on_where_it_was_killed_and_only_with_the_same_settings(
    run: Callable[..., tuple[int, str, str]], group_photo: GroupPhoto, tmp_path: Path
) -> None:
    photos, output = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    face = portrait(group_photo)
    face.save(photos / "a.png")
    face.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "b.png")
    (photos / "c.jpg").write_bytes(b"no picture")
    Image.new("RGB", (64, 64)).save(photos / "d.png")
    words = [photos, "--output", output, "--resolution", "64", "--least_sharpness", "0", "--most_padding", "1"]
    words += ["--num_workers", "1"]
    code, out, err = run(main, *words)
    assert code == 0 and "4 photographs with 2 faces\n2 faces kept: 1 in train, 1 in val\n" in out
    assert "skipped: c.jpg: " in err and "1 photograph without a face" in out and "held out" not in err
    summary = json.loads((output / "summary.json").read_text())
    assert [summary[key] for key in ("train", "val", "not_readable", "without_a_face")] == [1, 1, 1, 1]
    with Image.open(output / "contact_sheet.png") as sheet:
        assert sheet.size == (4 + 2 * (96 + 4), 4 + 96 + 4)  # two faces and white between them
    page = (output / "summary.html").read_text()
    assert "c.jpg" in page and page.count("<img") == 2  # kept faces and the histogram of sizes
    assert "only with --reject_grey" in page and "Up to" not in page
    manifest = output / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:2]) + lines[2][:20])  # killed while b.png was written down
    first = json.loads(lines[1])["faces"][0]["kept_as"]
    before = (output / first).stat().st_mtime_ns
    assert run(main, *words)[0] == 0
    assert manifest.read_bytes().splitlines(keepends=True) == lines
    assert (output / first).stat().st_mtime_ns == before
    code, _, err = run(main, *words, "--most_turn", "0.5")
    assert code == 2 and "other settings (most_turn 0.7)" in err
    for share in ("0.05", "0"):
        code, _, err = run(main, photos / "a.png", "--output", tmp_path / share, *words[3:], "--val_share", share)
        assert code == 0 and ("warning: nobody is held out: " in err) == (share != "0")


def test_two_processes_write_what_one_writes(group_photo: GroupPhoto, tmp_path: Path) -> None:
    photos = tmp_path / "in"
    photos.mkdir()
    Image.fromarray(group_photo.pixels).save(photos / "a.png")
    Image.fromarray(group_photo.pixels).save(photos / "b.jpg", quality=80)
    choice = replace(EASY, smallest_share=1.2, least_difference=6)
    one, two = Manifest(tmp_path / "one", {}), Manifest(tmp_path / "two", {})
    lines = FacePreparer(64, choice, Split(), one).run(open_faces(photos))
    assert [len(line.kept()) for line in lines] == [3, 0]  # two are too small, the others stand in both
    assert FacePreparer(64, choice, Split(), two, num_workers=2).run(open_faces(photos)) == lines
    assert one.file.read_bytes() == two.file.read_bytes()
    for face in lines[0].kept():
        assert one.written.read(face.kept_as) == two.written.read(face.kept_as)


class DeadlyFaces(FaceFiles):
    """Photographs of which one ends the process that opens it."""

    def read(self, index: int) -> Image.Image:
        if self.names[index] == "b.png":
            os._exit(9)
        return super().read(index)


@pytest.mark.slow
def test_a_photograph_that_ends_its_process_is_named_and_the_others_are_done(
    group_photo: GroupPhoto, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(group_photo.pixels).save(tmp_path / "in" / name)
    files = open_faces(tmp_path / "in")
    deadly = DeadlyFaces(files.path, files.names, files.sizes_bytes)
    manifest = Manifest(tmp_path / "out", {})
    first, second, third = FacePreparer(64, EASY, Split(), manifest, num_workers=2).run(deadly)
    assert len(first.kept()) == len(third.kept()) == 5
    assert "ends its reader (9)" in second.problem and second.faces == []


def test_a_packed_set_is_read_as_zips_goes_on_and_loses_what_its_photographs_lost(
    run: Callable[..., tuple[int, str, str]], group_photo: GroupPhoto, tmp_path: Path
) -> None:
    photos, output = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    portrait(group_photo).save(photos / "a.png")
    words = [photos, "--output", output, "--resolution", "64", "--least_sharpness", "0", "--most_padding", "1"]
    words += ["--zip", "--num_workers", "1", "--least_difference", "0"]
    assert run(main, *words)[0] == 0
    before = (output / "train.zip").read_bytes()
    assert not (output / "train").exists() and open_faces(output / "train.zip").names == ["a.png_0.png"]
    code, out, _ = run(main, *words)
    assert code == 0 and "looked at" not in out and (output / "train.zip").read_bytes() == before
    portrait(group_photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "b.png")
    Image.new("RGB", (65, 64)).save(photos / "a.png")
    code, out, _ = run(main, *words)
    assert code == 0 and "2 photographs looked at" in out and "1 face kept" in out
    kept = [file for file in (output / "train.zip", output / "val.zip") if file.exists()]
    assert [open_faces(file).names for file in kept] == [["b.png_0.png"]]
    assert not (output / "train").exists() and not (output / "val").exists()
