import io
import multiprocessing
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from data.faces.decoding import NO_SUFFIX, left_out_line
from data.faces.files import FaceFiles, fingerprint, open_faces


def _png(colour: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def _write_zip(path: Path, members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def _first_pixel(faces: FaceFiles, index: int) -> tuple[int, ...]:
    return faces.read(index).getpixel((0, 0))


# --- finding


def test_a_folder_is_searched_recursively_and_sorted_by_name_whatever_the_case_of_the_ending(tmp_path: Path) -> None:
    names = ["b/2.PNG", "b/1.jpeg", "a.JPG", "c/d/e.webp", "Z.bmp", "t.tif", "u.TIFF"]
    for name in [*names, "notes.txt", ".hidden.png", ".cache/x.png", "__MACOSX/y.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert open_faces(tmp_path).names == ["Z.bmp", "a.JPG", "b/1.jpeg", "b/2.PNG", "c/d/e.webp", "t.tif", "u.TIFF"]


def test_every_usual_suffix_counts_and_all_other_files_are_counted_by_theirs(tmp_path: Path) -> None:
    pictures = ["a.jpe", "b.JFIF", "c.jp2", "d.avif", "e.gif", "f.PPM", "g.dib", "h.mpo", "i.j2k"]
    for name in [*pictures, "x.MOV", "y.mov", "notes", "face.jxl", ".DS_Store", "__MACOSX/y.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    faces = open_faces(tmp_path)
    assert faces.names == pictures
    assert faces.left_out == {".mov": 2, ".jxl": 1, NO_SUFFIX: 1} == faces.take(slice(2)).left_out
    assert left_out_line(faces.left_out) == "left out: 2 .mov, 1 .jxl (convert them to PNG), 1 without suffix"
    said = (
        "left out: 3 .hif, 2 .heic (pip install pillow-heif reads them), 2 .tga, 1 .jxl (convert them to PNG), 1 .mov"
    )
    assert left_out_line({".heic": 2, ".hif": 3, ".mov": 1, ".tga": 2, ".jxl": 1}) == said
    archive = _write_zip(tmp_path / "faces.zip", [("a.png", b""), ("b.txt", b"text"), ("c/", b""), (".d.png", b"")])
    assert open_faces(archive).left_out == {".txt": 1}


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
    inherited = faces.store._archive
    reads = [faces.read(index).getpixel((0, 0)) for index in range(2)]
    sys.exit(0 if reads == [(0, 0, 0), (1, 0, 0)] and faces.store._archive is not inherited else 1)


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
    assert again.store._archive is None
    assert _first_pixel(again, 0) == (9, 8, 7)


# --- refusing


def test_a_missing_path_and_an_empty_folder_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"existing folder, archive or list, got .*nowhere; check the path"):
        open_faces(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found none; put JPEG, PNG, .* PPM files there"):
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


def test_pipes_and_links_to_nothing_are_named_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    faces = open_faces(tmp_path)
    assert faces.names == ["link.png", "pipe.png", "zero.png"] and len(fingerprint(faces)) == 64
    for index in range(3):
        with pytest.raises(ValueError, match="no ordinary file, or a link to nothing"):
            faces.read(index)


def test_a_file_of_terabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(10**12)  # takes no space on the disk
    with pytest.raises(ValueError, match="it has 1000000000000 bytes, more than the 640000000 allowed"):
        open_faces(tmp_path).read(0)


# --- hostile zips


def _edited(path: Path, edit: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Rewrites the directory of a zip after its entry a.png was changed."""
    with zipfile.ZipFile(path, "a") as archive:
        edit(archive.getinfo("a.png"))
        archive._didModify = True
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A zip of two faces."""
    return _write_zip(tmp_path / "faces.zip", [("a.png", _png((1, 2, 3))), ("b.png", _png((4, 5, 6)))])


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = _write_zip(tmp_path / "faces.zip", [("a.png", _png((1, 2, 3))), ("a.png", _png((4, 5, 6)))])
    with pytest.raises(ValueError, match=r"holds two members named 'a\.png'"):
        open_faces(path)


def test_a_linked_member_is_refused(archive: Path) -> None:
    path = _edited(archive, lambda member: setattr(member, "external_attr", 0o120777 << 16))
    with pytest.raises(ValueError, match="must lie inside it"):
        open_faces(path)


def test_a_member_whose_sizes_contradict_each_other_is_refused(archive: Path) -> None:
    path = _edited(archive, lambda member: setattr(member, "file_size", 10**9))
    with pytest.raises(ValueError, match="stored without compression"):
        open_faces(path)


def test_a_member_larger_than_the_archive_is_refused(archive: Path) -> None:
    def enlarge(member: zipfile.ZipInfo) -> None:
        member.file_size = member.compress_size = 10**9

    with pytest.raises(ValueError, match="overlap"):
        open_faces(_edited(archive, enlarge))


def test_overlapping_members_are_refused(archive: Path) -> None:
    # A "zip of death": many entries point at the same bytes.
    path = _edited(archive, lambda member: setattr(member, "header_offset", archive_offset(archive, "b.png") - 1))
    with pytest.raises(ValueError, match="overlap"):
        open_faces(path)


def archive_offset(path: Path, name: str) -> int:
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo(name).header_offset


def test_a_member_whose_own_header_says_something_else_is_named(archive: Path) -> None:
    stored = archive.read_bytes()
    archive.write_bytes(stored.replace(b"a.png", b"x.png", 1))  # the first is the local header
    with pytest.raises(ValueError, match=r"cannot read .*faces\.zip/a\.png: File name in directory"):
        open_faces(archive).read(0)


def test_a_truncated_zip_is_refused(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"faces\.zip is a damaged zip \(.+\); copy or make it again"):
        open_faces(archive)
