"""Files that cannot be used: substituted the same way by everyone, noted once, fatal when they are too many."""

import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.dataset import FaceBatch, RunBatches, RunImages, collate_faces
from data.faces.broken import BrokenFaces, deadly_problem, usable_faces
from data.faces.files import FaceFiles, open_faces
from data.randomness import photograph_and_substitutes, photograph_of

MakeFaces = Callable[..., FaceFiles]


@pytest.fixture
def make_faces(tmp_path: Path) -> MakeFaces:
    """Makes a folder of 8-pixel images whose red channel is their number; those named are damaged."""

    def make(number: int, *broken: int) -> FaceFiles:
        folder = tmp_path / "faces"
        folder.mkdir()
        for index in range(number):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / f"{index:03}.png")
        for index in broken:
            (folder / f"{index:03}.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
        return open_faces(folder)

    return make


def entries(report: Path) -> list[str]:
    return [json.loads(line)["file"] for line in report.read_text().splitlines()]


def load(faces: FaceFiles, report: Path, num_ranks: int, num_workers: int, end: int = 80) -> list[FaceBatch]:
    """All batches of 8 images, those of one step put together from all processes."""
    loaders = []
    for rank in range(num_ranks):
        images = RunImages(faces, 8, 3, broken=BrokenFaces(faces, report, 0.2))
        batches = RunBatches(0, end, 8, rank, num_ranks)
        loaders.append(DataLoader(images, batch_sampler=batches, collate_fn=collate_faces, num_workers=num_workers))
    return [
        FaceBatch(
            torch.cat([part.target for part in step]),
            [index for part in step for index in part.image_indices],
            sum(part.num_substituted for part in step),
        )
        for step in zip(*loaders, strict=True)
    ]


# --- substitution


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_substitutes_do_not_depend_on_processes_or_workers_and_are_counted(
    make_faces: MakeFaces, tmp_path: Path
) -> None:
    faces = make_faces(20, 4, 11)
    reference = load(faces, tmp_path / "one.jsonl", 1, 0)
    for batch in reference:
        expected = []
        for k in batch.image_indices:
            candidates = photograph_and_substitutes(3, k, 20)
            expected.append(next(p for p in candidates if p not in (4, 11)))
        assert batch.target[:, 0, 0, 0].tolist() == expected
        assert batch.num_substituted == sum(photograph_of(3, k, 20) in (4, 11) for k in batch.image_indices)
    assert sum(batch.num_substituted for batch in reference) == 2 * 80 // 20  # each photograph comes once an epoch
    for num_ranks, num_workers in ((1, 2), (2, 0), (4, 1)):
        other = load(faces, tmp_path / f"{num_ranks}.jsonl", num_ranks, num_workers)
        for one, two in zip(reference, other, strict=True):
            assert torch.equal(one.target, two.target)
            assert one[1:] == two[1:]
        assert sorted(entries(tmp_path / f"{num_ranks}.jsonl")) == ["004.png", "011.png"]


def test_the_images_of_whole_files_stay_what_they_were(make_faces: MakeFaces, tmp_path: Path) -> None:
    faces = make_faces(20, 4)
    images = RunImages(faces, 8, 3, broken=BrokenFaces(faces, tmp_path / "report.jsonl", 0.2))
    for k in range(60):
        if photograph_of(3, k, 20) != 4:
            assert images[k].target[0, 0, 0] == photograph_of(3, k, 20)


def test_every_photograph_stands_in_sooner_or_later() -> None:
    first = photograph_of(0, 5, 30)
    listed = list(photograph_and_substitutes(0, 5, 30))
    assert listed[0] == first and sorted(listed[1:]) == list(range(30))
    starts = {list(photograph_and_substitutes(0, k, 30))[1] for k in range(400)}
    assert len(starts) == 30  # nobody is shown for all the broken ones


def test_without_a_report_the_first_broken_file_ends_the_run(make_faces: MakeFaces) -> None:
    images = RunImages(make_faces(4, 0, 1, 2, 3), 8, 0)
    with pytest.raises(ValueError, match=r"cannot use .*/faces/00\d\.png as a face"):
        images[0]


# --- the report and the share


def test_above_the_share_the_run_ends_with_the_name_of_the_file_and_of_the_report(
    make_faces: MakeFaces, tmp_path: Path
) -> None:
    faces, report = make_faces(40, 1, 2, 3), tmp_path / "run" / "report.jsonl"
    broken = BrokenFaces(faces, report, 0.05)
    for index in (1, 2, 1):
        broken.add(index, f"reason {index}")
    assert broken.count() == 2
    with pytest.raises(ValueError) as raised:
        broken.add(3, "cannot use 003.png:\n it is damaged")
    text = str(raised.value)
    assert text.startswith("3 of 40 faces cannot be used, at most 2 may be broken (data.max_broken_share)")
    assert "cannot use 003.png" in text and str(report) in text
    assert [json.loads(line) for line in report.read_text().splitlines()] == [
        {"file": "001.png", "reason": "reason 1"},
        {"file": "002.png", "reason": "reason 2"},
        {"file": "003.png", "reason": "cannot use 003.png: it is damaged"},
    ]
    with pytest.raises(ValueError, match="3 of 40 faces"):  # a restart does not forget
        BrokenFaces(faces, report, 0.05).add(1, "again")
    BrokenFaces(faces, report, 0.1).add(1, "again")  # unless more are allowed


@pytest.mark.parametrize(("number", "share", "most"), [(1000, 0.01, 10), (5, 0.01, 1), (5, 0.0, 0), (1, 0.5, 0)])
def test_the_share_becomes_a_number_of_files_and_at_least_one(
    number: int, share: float, most: int, tmp_path: Path
) -> None:
    faces = FaceFiles(tmp_path, [f"{i:04}.png" for i in range(number)], [1] * number)
    assert BrokenFaces(faces, tmp_path / "report.jsonl", share).most == most


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_a_share_out_of_its_range_is_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 0.5\]"):
        BrokenFaces(FaceFiles(tmp_path, ["a.png"], [1]), tmp_path / "report.jsonl", share)


def _add_all(arguments: tuple[FaceFiles, Path, int]) -> None:
    faces, report, first = arguments
    broken = BrokenFaces(faces, report, 0.5)
    for offset in range(40):
        broken.add((first + offset) % 40, "x" * 3000)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_many_processes_write_one_whole_line_for_each_file(tmp_path: Path) -> None:
    faces, report = FaceFiles(tmp_path, [f"{i:03}.png" for i in range(100)], [1] * 100), tmp_path / "report.jsonl"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_add_all, [(faces, report, first) for first in (0, 10, 20, 30)], chunksize=1)
    assert sorted(entries(report)) == [f"{i:03}.png" for i in range(40)]


def test_a_line_cut_off_by_a_kill_and_files_of_another_set_are_passed_over(
    make_faces: MakeFaces, tmp_path: Path
) -> None:
    faces, report = make_faces(40), tmp_path / "report.jsonl"
    report.write_text('{"file": "elsewhere.png", "reason": "x"}\n{"file": "001.p')
    broken = BrokenFaces(faces, report, 0.05)
    assert broken.count() == 0
    broken.add(7, "damaged")
    assert broken.count() == 1
    assert json.loads(report.read_text().splitlines()[-1])["file"] == "007.png"


def test_a_name_that_is_no_unicode_text_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in (b"a\xff\n.png", b"b.png", b"c.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"")
    faces = open_faces(folder)
    broken = BrokenFaces(faces, tmp_path / "report.jsonl", 0.5)
    broken.add(0, f"cannot use {faces.names[0]}")
    assert broken.count() == 1 and entries(tmp_path / "report.jsonl") == [os.fsdecode(b"a\xff\n.png")]


def test_usable_faces_leaves_out_what_cannot_be_decoded(make_faces: MakeFaces, tmp_path: Path) -> None:
    faces = make_faces(30, 0, 17)
    usable = faces.choose(usable_faces(faces, tmp_path / "report.jsonl", 0.1))
    assert usable.names == [name for name in faces.names if name not in ("000.png", "017.png")]
    assert np.asarray(usable.read(16))[0, 0, 0] == 18
    assert entries(tmp_path / "report.jsonl") == ["000.png", "017.png"]
    with pytest.raises(ValueError, match="2 of 30 faces cannot be used, at most 1 may"):
        usable_faces(faces, tmp_path / "other.jsonl", 0.01)


# --- faces that go during the run


def test_a_file_that_vanishes_or_changes_during_the_run_counts_as_broken(make_faces: MakeFaces, tmp_path: Path) -> None:
    faces = make_faces(20)
    (faces.path / "003.png").unlink()
    with (faces.path / "009.png").open("ab") as file:
        file.write(b"more")
    images = RunImages(faces, 8, 3, broken=BrokenFaces(faces, tmp_path / "report.jsonl", 0.2))
    assert sum(images[k].is_substitute for k in range(20)) == 2
    reasons = {e["file"]: e["reason"] for e in map(json.loads, (tmp_path / "report.jsonl").read_text().splitlines())}
    assert "No such file" in reasons["003.png"]
    assert "bytes when the faces were listed" in reasons["009.png"]


def test_a_set_that_is_gone_ends_the_run_at_once_instead_of_counting_its_files(
    make_faces: MakeFaces, tmp_path: Path
) -> None:
    faces = make_faces(20)
    images = RunImages(faces, 8, 3, broken=BrokenFaces(faces, tmp_path / "report.jsonl", 0.5))
    faces.path.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="are gone; bring them back and continue with the same command"):
        images[0]
    assert not (tmp_path / "report.jsonl").exists()


class _DiesOfOne(FaceFiles):
    """A decoder that crashes on one file, or is killed for the memory it takes."""

    def content(self, index: int) -> bytes:
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().content(index)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_file_on_which_a_worker_died_can_be_named(make_faces: MakeFaces) -> None:
    made = make_faces(20)
    faces = _DiesOfOne(made.path, made.names, made.sizes_bytes)
    images = RunImages(faces, 8, 3)
    loader = DataLoader(images, batch_sampler=RunBatches(0, 20, 4), collate_fn=collate_faces, num_workers=2)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(loader)
    assert f"{faces.path}/007.png" in images.being_read()


class _Deadly(FaceFiles):
    """Decoding one file never ends, or ends the process, as faults in a library of C do."""

    how = "hangs"

    def read(self, index: int) -> Image.Image:
        if index == 7:
            if self.how == "hangs":
                time.sleep(100)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("how", "words"), [("hangs", "takes longer than 1 seconds"), ("dies", r"ends its reader \(-9")]
)
def test_a_file_that_ends_its_reader_is_found_noted_and_not_opened_again(
    make_faces: MakeFaces, tmp_path: Path, how: str, words: str
) -> None:
    made = make_faces(20)
    faces = _Deadly(made.path, made.names, made.sizes_bytes)
    faces.how = how
    assert deadly_problem(faces, 6, seconds=20) is None
    problem = deadly_problem(faces, 7, seconds=1)
    assert problem is not None and re.search(words, problem)
    BrokenFaces(faces, tmp_path / "report.jsonl", 0.5).add(7, problem, is_deadly=True)
    images = RunImages(faces, 8, 3, broken=BrokenFaces(faces, tmp_path / "report.jsonl", 0.5))
    assert sum(images[k].is_substitute for k in range(20)) >= 1  # the next start, with others in its place
    assert images.broken is not None and images.broken.count() == 1


def test_a_file_whose_bytes_do_not_arrive_is_not_to_blame(make_faces: MakeFaces) -> None:
    made = make_faces(3)
    assert deadly_problem(_DiesOfOne(made.path, made.names * 4, made.sizes_bytes * 4), 7) is None
