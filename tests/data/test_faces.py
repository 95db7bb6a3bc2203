import io
import multiprocessing
import pickle
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import faces as faces_module
from data.faces import FaceFiles, fingerprint, open_faces


def _png(colour: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def _write_zip(path: Path, members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def _read_saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return np.asarray(open_faces(tmp_path).read(0))


def _first_pixel(faces: FaceFiles, index: int) -> tuple[int, ...]:
    return faces.read(index).getpixel((0, 0))


# --- finding


def test_a_folder_is_searched_recursively_and_sorted_by_name_whatever_the_case_of_the_ending(tmp_path: Path) -> None:
    names = ["b/2.PNG", "b/1.jpeg", "a.JPG", "c/d/e.webp", "Z.bmp", "t.tif", "u.TIFF"]
    for name in [*names, "notes.txt", ".hidden.png", ".cache/x.png", "__MACOSX/y.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert open_faces(tmp_path).names == ["Z.bmp", "a.JPG", "b/1.jpeg", "b/2.PNG", "c/d/e.webp", "t.tif", "u.TIFF"]


def test_linked_folders_are_followed_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "face.png").write_bytes(_png((1, 2, 3)))
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "faces")
    faces = open_faces(tmp_path / "faces")
    assert faces.names == ["linked/face.png"]
    assert _first_pixel(faces, 0) == (1, 2, 3)


def test_a_zip_in_the_nvlabs_layout_gives_the_same_faces_as_its_folder(tmp_path: Path) -> None:
    members = [(f"00000/img{index:08d}.png", _png((index, 0, 255))) for index in (2, 0, 1)]
    archive = open_faces(_write_zip(tmp_path / "faces.zip", [*members, ("dataset.json", b"{}")]))
    for name, content in members:
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    folder = open_faces(tmp_path / "folder")
    assert archive.names == folder.names == [f"00000/img{index:08d}.png" for index in range(3)]
    assert [_first_pixel(archive, index) for index in range(3)] == [(index, 0, 255) for index in range(3)]
    assert [_first_pixel(folder, index) for index in range(3)] == [(index, 0, 255) for index in range(3)]
    assert fingerprint(archive) == fingerprint(folder)


def test_the_fingerprint_changes_with_a_name_or_a_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12")
    (tmp_path / "b.png").write_bytes(b"3")
    first = fingerprint(open_faces(tmp_path))
    assert first == fingerprint(open_faces(str(tmp_path)))
    (tmp_path / "b.png").write_bytes(b"34")
    second = fingerprint(open_faces(tmp_path))
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert len({first, second, fingerprint(open_faces(tmp_path))}) == 3


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_worker_processes_read_from_a_zip_that_the_parent_has_open(tmp_path: Path, method: str) -> None:
    members = [(f"{index:03d}.png", _png((index, 0, 0))) for index in range(40)]
    faces = open_faces(_write_zip(tmp_path / "faces.zip", members))
    faces.read(0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        images = pool.map(faces.read, range(40), chunksize=1)
    assert [image.getpixel((0, 0))[0] for image in images] == list(range(40))
    assert faces.read(39).getpixel((0, 0)) == (39, 0, 0)


def _read_after_fork(faces: FaceFiles) -> None:
    inherited = faces._archive
    reads = [faces.read(index).getpixel((0, 0)) for index in range(2)]
    sys.exit(0 if reads == [(0, 0, 0), (1, 0, 0)] and faces._archive is not inherited else 1)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_opens_the_zip_anew_because_the_file_position_would_be_shared(tmp_path: Path) -> None:
    faces = open_faces(_write_zip(tmp_path / "faces.zip", [(f"{red}.png", _png((red, 0, 0))) for red in range(2)]))
    faces.read(0)
    process = multiprocessing.get_context("fork").Process(target=_read_after_fork, args=(faces,))
    process.start()
    process.join(30)
    assert process.exitcode == 0


def test_pickled_faces_carry_no_open_file(tmp_path: Path) -> None:
    faces = open_faces(_write_zip(tmp_path / "faces.zip", [("a.png", _png((9, 8, 7)))]))
    faces.read(0)
    again = pickle.loads(pickle.dumps(faces))
    assert again._archive is None
    assert _first_pixel(again, 0) == (9, 8, 7)


# --- refusing


def test_a_missing_path_and_an_empty_folder_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"existing folder or zip file, got .*nowhere; check the path"):
        open_faces(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found none; put jpg, jpeg, png, webp, bmp, tif, tiff files there"):
        open_faces(tmp_path)


@pytest.mark.parametrize("name", ["/etc/face.png", "../face.png", "a/../../face.png", "..\\face.png"])
def test_zip_members_outside_the_zip_are_refused(tmp_path: Path, name: str) -> None:
    path = _write_zip(tmp_path / "faces.zip", [("good.png", _png((0, 0, 0))), (name, _png((0, 0, 0)))])
    with pytest.raises(ValueError, match="must lie inside it"):
        open_faces(path)


def test_a_compressed_zip_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    path = _write_zip(tmp_path / "faces.zip", [("a.png", _png((0, 0, 0)))], zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="zip -0 -r"):
        open_faces(path)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "face.png").write_bytes(_png((0, 0, 0)))
    with pytest.raises(ValueError, match=r"must be a folder or an uncompressed zip file, got .*face\.png"):
        open_faces(tmp_path / "face.png")


@pytest.mark.parametrize("content", [b"", b"no image", _png((1, 2, 3), size=(64, 64))[:-40]], ids=len)
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot use .*/bad\.png as a face: .*; repair, convert or remove the file"):
        open_faces(tmp_path).read(0)


def test_a_damaged_zip_member_is_named(tmp_path: Path) -> None:
    content = _png((1, 2, 3))
    path = _write_zip(tmp_path / "faces.zip", [("bad.png", content)])
    stored = path.read_bytes()
    path.write_bytes(stored.replace(content, content[:-1] + b"\0"))
    with pytest.raises(ValueError, match=r"cannot read .*faces\.zip/bad\.png: Bad CRC-32"):
        open_faces(path).read(0)


def test_an_image_removed_during_the_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.png").write_bytes(_png((1, 2, 3)))
    faces = open_faces(tmp_path)
    (tmp_path / "gone.png").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*gone\.png: "):
        faces.read(0)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the header is whole: decoding would complain about the missing pixels instead.
    (tmp_path / "huge.png").write_bytes(_png((0, 0, 0), size=(100, 100))[:60])
    monkeypatch.setattr(faces_module, "MAX_PIXELS", 9_999)
    with pytest.raises(ValueError, match="100 x 100 pixels, more than the 9999 allowed"):
        open_faces(tmp_path).read(0)
    monkeypatch.setattr(faces_module, "MAX_PIXELS", 10_000)
    with pytest.raises(ValueError, match="truncated"):
        open_faces(tmp_path).read(0)


def test_formats_that_would_start_another_program_are_refused_under_any_name(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "disguised.jpg", "EPS")
    with pytest.raises(ValueError, match="cannot identify image file"):
        open_faces(tmp_path).read(0)


# --- decoding


def test_lossless_formats_give_their_pixels_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for ending, options in {"png": {}, "bmp": {}, "tif": {}, "webp": {"lossless": True}}.items():
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


def test_cmyk_becomes_the_complement(tmp_path: Path) -> None:
    read = _read_saved(tmp_path, Image.new("CMYK", (1, 1), (255, 0, 51, 0)), "x.tif")
    assert read.tolist() == [[[0, 255, 204]]]


def test_transparent_images_are_laid_over_black(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    for column, alpha in enumerate((0, 51, 255)):
        image.putpixel((column, 0), (200, 100, 50, alpha))
    assert _read_saved(tmp_path, image, "x.png").tolist() == [[[0, 0, 0], [40, 20, 10], [200, 100, 50]]]


def test_a_transparent_colour_of_an_rgb_image_becomes_black(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert _read_saved(tmp_path, image, "x.png", transparency=(1, 2, 3)).tolist() == [[[0, 0, 0], [9, 9, 9]]]


def test_float_images_are_refused_because_their_range_is_unknown(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="mode F"):
        open_faces(tmp_path).read(0)
