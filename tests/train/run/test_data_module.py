"""The loader of a run: what watches its workers ends with them."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from train.run.data_module import TimedLoader, open_photographs
from train.run.settings import FaceSettings


def test_all_sets_of_a_run_are_laid_over_the_same_background(
    draw_faces: Callable[[Path], Path], tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("validation_faces", "degraded", "validation_degraded", "real_faces")}
    faces = draw_faces(tmp_path / "faces")
    for folder in folders.values():
        shutil.copytree(faces, folder)
    sets = open_photographs(FaceSettings(faces, background="#0A0b0c", **folders)).all_sets()
    assert [one.background for one in sets] == [(10, 11, 12)] * 5


def test_what_watches_the_workers_ends_with_each_pass_over_the_batches_also_when_it_is_left_early() -> None:
    loader = TimedLoader(DataLoader([torch.zeros(1)] * 4, num_workers=1))
    assert len(list(loader)) == 4
    for _ in loader:
        break
    end = time.monotonic() + 10
    while time.monotonic() < end and any("_kill_hanging_workers" in t.name for t in threading.enumerate()):
        time.sleep(0.05)
    assert not [thread.name for thread in threading.enumerate() if "_kill_hanging_workers" in thread.name]
    assert not loader.has_hung
