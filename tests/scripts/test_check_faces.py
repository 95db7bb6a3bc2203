"""The check of a set says what is in it and what cannot be used."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from data.faces.decoding import image_suffixes
from scripts.check_faces import main
from system import command_line
from tests.fixtures.color_profiles import display_p3


def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, str]:
    """Exit code and what was printed."""
    monkeypatch.setattr(sys, "argv", ["check_faces", *map(str, options)])
    with pytest.raises(SystemExit) as ended:
        command_line.run(main)
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out if ended.value.code != 2 else captured.err


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Five usable files, two of them the same picture, and three others."""
    folder = tmp_path / "faces"
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "a.png")
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "sub" / "b.bmp")
    Image.new("CMYK", (64, 80), (9, 9, 9, 0)).save(folder / "c.jpg")
    Image.new("L", (16, 16), 5).save(folder / "d.png")
    Image.new("P", (64, 64)).save(folder / "e.png")
    frames = [Image.new("RGB", (8, 8), (red, 0, 0)) for red in (1, 99)]
    frames[0].save(folder / "moving.png", save_all=True, append_images=frames[1:])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:70])
    return folder


def test_a_set_is_described_with_its_broken_files(
    faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = check(monkeypatch, capsys, faces, "--resolution", 64)
    lines = text.splitlines()
    assert code == 1
    assert lines[0] == "8 files, 5 can be used"
    assert lines[1] == "formats: PNG (3), JPEG (1), BMP (1)"
    assert lines[2] == "modes: RGB (2), CMYK (1), L (1), P (1)"
    assert lines[3] == "colour profiles: none"
    assert lines[4] == "sizes in pixels: 64x64 (3), 64x80 (1), 16x16 (1)"
    assert lines[5] == "transparent, laid over (0, 0, 0) (RGB): 0"
    assert lines[6:8] == ["smaller than 64 pixels: 1", "    d.png"]
    assert lines[8:10] == ["there more than once: 1", "    a.png = sub/b.bmp"]
    assert lines[10] == "cannot be used: 3"
    assert lines[11].startswith("    cut.png: ") and "truncated" in lines[11]
    assert lines[12].startswith("    empty.jpg: it is empty")
    assert lines[13] == "    moving.png: it is animated; store one frame as an image"
    assert lines[14].startswith("fingerprint ") and len(lines) == 15


def test_what_is_left_out_profiles_and_transparency_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.HEIC", "b.heic", "c.mov", "Thumbs.db", ".hidden", "notes"):
        (tmp_path / name).write_bytes(b"")
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(tmp_path / "d.png", icc_profile=display_p3())
    monkeypatch.setattr("data.faces.decoding.reads_heif", lambda: False)
    image_suffixes.cache_clear()
    code, text = check(monkeypatch, capsys, tmp_path)
    image_suffixes.cache_clear()
    assert code == 0
    told = "left out: 2 .heic (pip install pillow-heif reads them), 1 .db, 1 .mov, 1 without suffix"
    assert text.splitlines()[0] == f"{tmp_path}: {told}"
    assert "colour profiles: Display P3, converted to sRGB (1)" in text
    assert "transparent, laid over (0, 0, 0) (RGB): 1" in text
    colored = check(monkeypatch, capsys, tmp_path, "--background_color", "#FF8000")
    assert colored[0] == 0 and "transparent, laid over (255, 128, 0) (RGB): 1" in colored[1]
    code, text = check(monkeypatch, capsys, tmp_path, "--background_color", "see-through")
    assert code == 2 and "'#rrggbb' or a color's name" in text and text.count("\n") == 1


def test_a_whole_set_ends_with_0_and_wrong_options_with_2(
    faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("moving.png", "empty.jpg", "cut.png"):
        (faces / name).unlink()
    assert check(monkeypatch, capsys, faces)[0] == 0
    code, text = check(monkeypatch, capsys, faces / "nowhere")
    assert code == 2 and text.startswith("error: faces must be an existing folder")
    assert check(monkeypatch, capsys, faces, "--threads", 0)[0] == 2


def test_long_lists_are_cut_unless_all_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(25):
        (tmp_path / f"{index:02}.png").write_bytes(b"")
    assert "    and 5 more (--all lists them)" in check(monkeypatch, capsys, tmp_path)[1]
    assert check(monkeypatch, capsys, tmp_path, "--all")[1].count("it is empty") == 25
