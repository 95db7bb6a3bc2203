from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from data.faces.files import FaceFiles, open_faces
from inference.folders import restore_folder


def _negative(degraded: Tensor) -> Tensor:
    """Stands for a network: its results are known exactly."""
    return -degraded


def test_every_face_is_restored_under_its_own_name_whatever_the_batch(drawn_faces: FaceFiles, tmp_path: Path) -> None:
    done: list[int] = []
    failed = restore_folder(_negative, drawn_faces, 32, tmp_path / "out", batch_size=3, on_progress=done.append)
    assert failed == {}
    assert done == [3, 6, 7]
    written = open_faces(tmp_path / "out")
    assert written.names == drawn_faces.names
    for index in range(len(written)):
        assert np.array_equal(np.asarray(written.read(index)), 255 - np.asarray(drawn_faces.read(index)))


def test_a_corrupt_file_is_reported_and_the_others_are_restored(drawn_faces: FaceFiles, tmp_path: Path) -> None:
    (drawn_faces.path / "b" / "6.png").write_bytes(b"no picture")
    (drawn_faces.path / "1.png").write_bytes((drawn_faces.path / "1.png").read_bytes()[:200])
    failed = restore_folder(_negative, drawn_faces, 32, tmp_path / "out", batch_size=4)
    assert sorted(failed) == ["1.png", "b/6.png"]
    assert all("\n" not in reason for reason in failed.values())
    assert open_faces(tmp_path / "out").names == [name for name in drawn_faces.names if name not in failed]


def test_faces_of_any_size_come_out_at_the_size_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (90, 50), (10, 200, 30)).save(tmp_path / "in" / "wide.jpg", quality=95)
    Image.new("L", (7, 7), 77).save(tmp_path / "in" / "tiny.bmp")
    assert restore_folder(_negative, open_faces(tmp_path / "in"), 32, tmp_path / "out") == {}
    with Image.open(tmp_path / "out" / "tiny.png") as tiny, Image.open(tmp_path / "out" / "wide.png") as wide:
        assert np.asarray(tiny).tolist() == [[[178] * 3] * 32] * 32 and wide.size == (32, 32)


def test_two_faces_that_would_become_one_file_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / "in" / name)
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png would both become"):
        restore_folder(_negative, open_faces(tmp_path / "in"), 32, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_never_follow_a_link_out_of_the_output_folder(drawn_faces: FaceFiles, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").symlink_to(drawn_faces.path / "b", target_is_directory=True)
    before = (drawn_faces.path / "b" / "5.png").read_bytes()
    with pytest.raises(ValueError, match="is a link to elsewhere"):
        restore_folder(_negative, drawn_faces, 32, tmp_path / "out")
    assert (drawn_faces.path / "b" / "5.png").read_bytes() == before
