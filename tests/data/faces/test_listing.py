"""Faces as people have them: lists of paths, tars, LMDBs, one picture; everything else is named for what it is."""

import io
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from data.faces.files import FaceFiles, contents_fingerprint, fingerprint, open_faces, times_fingerprint
from data.faces.pairing import match_degraded

NAMES = ["a.png", "sub/b.png", "sub/c.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three faces that their red tells apart."""
    for index, name in enumerate(NAMES):
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (index, 9, 9)).save(path)
    (tmp_path / "faces" / "notes.md").write_text("notes")
    return tmp_path / "faces"


def reds(faces: FaceFiles) -> list[int]:
    return [faces.read(index).getpixel((0, 0))[0] for index in range(len(faces))]


def write_tar(folder: Path, path: Path, mode: str = "w", edit: Callable[[tarfile.TarInfo], None] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, ".", filter=lambda member: edit(member) or member if edit else member)
    return path


def write_lmdb(folder: Path, path: Path) -> Path:
    """As BasicSR does: keys without suffix, and a file that names them with shape and compression."""
    with lmdb.open(str(path), map_size=2**24) as database, database.begin(write=True) as transaction:
        for name in NAMES:
            transaction.put(name.removesuffix(".png").encode(), (folder / name).read_bytes())
    (path / "meta_info.txt").write_text("".join(f"{name} (30,40,3) 1\n" for name in NAMES))
    return path


@pytest.fixture(params=["tar", "lmdb", "list"])
def other(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Path:
    """The same faces in another form."""
    if request.param == "tar":
        return write_tar(folder, tmp_path / "faces.tar")
    if request.param == "lmdb":
        return write_lmdb(folder, tmp_path / "faces.lmdb")
    lines = [f"{folder / name}\n" for name in NAMES[1:]] + ["\n# a comment\n", "faces/a.png (30,40,3) 1\n"]
    (tmp_path / "faces.txt").write_text("".join(lines))
    return tmp_path / "faces.txt"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_every_form_gives_the_faces_and_fingerprints_of_the_folder(other: Path, folder: Path) -> None:
    faces, expected = open_faces(other), open_faces(folder)
    assert faces.names == NAMES == expected.names and reds(faces) == [0, 1, 2]
    assert fingerprint(faces) == fingerprint(expected)
    assert contents_fingerprint(faces) == contents_fingerprint(expected)
    again = pickle.loads(pickle.dumps(faces))
    assert reds(again.choose([2, 0])) == [2, 0]
    with multiprocessing.get_context("fork").Pool(2) as pool:  # which has the parent's handles
        assert [image.getpixel((0, 0))[0] for image in pool.map(faces.read, range(3))] == [0, 1, 2]


def test_a_change_of_any_form_is_seen_in_its_times(other: Path, folder: Path) -> None:
    faces = open_faces(other)
    before = times_fingerprint(faces)
    assert before == times_fingerprint(faces)
    changed = folder / "a.png" if other.suffix == ".txt" else other / "data.mdb" if other.is_dir() else other
    os.utime(changed)
    assert times_fingerprint(faces) != before


def test_one_picture_is_a_set_of_one(folder: Path) -> None:
    faces = open_faces(folder / "sub" / "c.png")
    assert faces.names == ["c.png"] and reds(faces) == [2]
    assert faces.source(0) == str(folder / "sub" / "c.png")


def test_the_home_folder_is_understood_in_paths_and_in_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert open_faces("~/faces").names == NAMES
    (folder.parent / "list.txt").write_text("~/faces/sub/b.png\n")
    assert reds(open_faces("~/list.txt")) == [1]


def test_two_lists_are_pairs_by_the_names_below_what_their_files_share(folder: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / "lq" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lq" / name).with_suffix(".jpg").write_bytes(b"")
    (tmp_path / "hq.txt").write_text("".join(f"faces/{name}\n" for name in NAMES))
    (tmp_path / "lq.txt").write_text("".join(f"lq/{name.replace('.png', '.jpg')}\n" for name in NAMES[::-1]))
    matched = match_degraded(open_faces(tmp_path / "lq.txt"), open_faces(tmp_path / "hq.txt"))
    assert matched.names == ["a.jpg", "sub/b.jpg", "sub/c.jpg"]


# --- named for what it is


def test_files_of_other_kinds_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"faces\.tar\.gz is a compressed tar, .* unpack it"):
        open_faces(write_tar(folder, tmp_path / "faces.tar.gz", "w:gz"))
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "face.JXL").write_bytes(b"no matter what")
    with pytest.raises(ValueError, match=r"files such as .*face\.JXL cannot be read as they are; convert them to PNG"):
        open_faces(tmp_path / "face.JXL")
    with pytest.raises(ValueError, match=r"must be a folder, .* got .*weights\.pth, which is none of them \(it begins"):
        open_faces(tmp_path / "weights.pth")
    (tmp_path / "faces.zip").write_bytes(b"Rar!\x1a\x07")
    with pytest.raises(ValueError, match=r"faces\.zip, which is none of them \(it begins with b'Rar!"):
        open_faces(tmp_path / "faces.zip")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="which is no ordinary file"):
        open_faces(tmp_path / "pipe.png")


def test_lists_that_name_nothing_or_what_is_not_there_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for text, said in (
        ("faces/a.png\nfaces/gone.png\n", r"must name a picture that exists; 1 do not, such as .*gone\.png"),
        ("# nothing\n", "it names none"),
        ("faces/a.png\nfaces/sub/../a.png\n", r"names .*/faces/a\.png 2 times"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            open_faces(path)


def test_hostile_tars_are_refused(folder: Path, tmp_path: Path) -> None:
    def outside(member: tarfile.TarInfo) -> None:
        member.name = f"../{member.name}"

    with pytest.raises(ValueError, match="must lie inside it"):
        open_faces(write_tar(folder, tmp_path / "outside.tar", edit=outside))
    path = write_tar(folder, tmp_path / "cut.tar")
    path.write_bytes(path.read_bytes()[: 2 * 512 + 700])
    with pytest.raises(ValueError, match=r"cut\.tar"):
        open_faces(path)
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"must be files, 'a\.png' is not; use tar -h"):
        open_faces(tmp_path / "link.tar")
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            member = tarfile.TarInfo("a.png")
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(ValueError, match=r"two members named 'a\.png'"):
        open_faces(tmp_path / "twice.tar")


def test_an_lmdb_that_is_not_basicsrs_or_lacks_values_is_named(folder: Path, tmp_path: Path) -> None:
    path = write_lmdb(folder, tmp_path / "faces.lmdb")
    with (path / "meta_info.txt").open("a") as file:
        file.write("gone.png (30,40,3) 1\n")
    with pytest.raises(ValueError, match=r"is an LMDB that lacks what its meta_info\.txt names: .*no key gone"):
        open_faces(path)
    (path / "meta_info.txt").unlink()
    with pytest.raises(ValueError, match=r"is an LMDB without meta_info\.txt, which names its pictures in BasicSR's"):
        open_faces(path)
    (path / "meta_info.txt").write_text("a.png (30,40,3) 1\n")
    (path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="is an LMDB that lacks"):
        open_faces(path)
