"""Meters give means since the last reading and survive a checkpoint."""

import math
from collections.abc import Callable

import pytest
import torch

from train.run.progress import Meters


def test_a_reading_is_the_mean_of_each_name_since_the_last_one() -> None:
    meters = Meters()
    meters.add({"loss": torch.tensor(1.0), "rare": torch.tensor(10.0)})
    meters.add({"loss": torch.tensor(2.0)})
    meters.add({"loss": torch.tensor(6.0)})
    assert meters.read() == {"loss": 3.0, "rare": 10.0}
    assert meters.read() == {}
    meters.add({"loss": torch.tensor(5.0)})
    assert meters.read() == {"loss": 5.0}


def test_values_with_a_graph_or_in_half_precision_are_kept_as_detached_float32() -> None:
    meters = Meters()
    meters.add({"loss": torch.tensor(0.5, requires_grad=True) * 2})
    for _ in range(300):  # bfloat16 would stop growing at 256
        meters.add({"half": torch.tensor(1.0, dtype=torch.bfloat16)})
    assert not any(totals.requires_grad for _, totals in meters.state())
    assert meters.read() == {"loss": 1.0, "half": 1.0}


def test_an_added_value_that_changes_later_does_not_change_the_mean() -> None:
    meters, value = Meters(), torch.tensor(1.0)
    meters.add({"loss": value})
    meters.add({"loss": torch.tensor(3.0)})
    assert meters.read()["loss"] == pytest.approx(2.0)
    assert value == 1.0


def test_values_that_are_not_finite_are_left_out_of_the_mean() -> None:
    meters = Meters()
    for loss, only in ((1.0, float("nan")), (float("inf"), float("nan")), (2.0, float("-inf"))):
        meters.add({"loss": torch.tensor(loss), "only": torch.tensor(only)})
    values = meters.read()
    assert values["loss"] == 1.5 and math.isnan(values["only"])


def test_another_number_of_processes_shares_the_totals_evenly() -> None:
    totals = torch.tensor([[[6.0], [3.0]], [[2.0], [1.0]]])  # sums and counts of two processes
    meters = Meters()
    meters.restore([(("loss",), totals)])
    meters.add({"loss": torch.tensor(5.0)})
    assert meters.read() == {"loss": (4 + 5) / 3}


def test_meters_restored_in_the_middle_read_as_if_nothing_had_happened() -> None:
    whole, first, second = Meters(), Meters(), Meters()
    values = [torch.tensor(v) for v in (0.1, 0.7, 0.25, 1 / 3)]
    for value in values:
        whole.add({"loss": value})
    for value in values[:2]:
        first.add({"loss": value})
    second.restore(first.state())
    for value in values[2:]:
        second.add({"loss": value})
    assert second.read() == whole.read()


def test_a_pause_of_the_first_process_is_a_pause_of_all(in_two_processes: Callable[[str], list[list[float]]]) -> None:
    """The others wait for it, so their images per second would else fall, and with them the mean."""
    first, second = in_two_processes("""
import time
from train.run.progress import Progress
progress = Progress(0)
torch.distributed.barrier()
start = time.perf_counter()
with progress.pause():
    time.sleep(1.0 if rank == 0 else 0.0)
print(json.dumps([progress.paused_seconds, time.perf_counter() - start]))
""")
    for paused_seconds, seconds in (first, second):
        assert 0.9 < paused_seconds <= seconds
        assert seconds - paused_seconds < 0.1
