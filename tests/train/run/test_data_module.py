"""The loader of a run: what watches its workers ends with them."""

import threading
import time

import torch
from torch.utils.data import DataLoader

from train.run.data_module import TimedLoader


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
