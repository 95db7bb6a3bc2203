"""The number of processes follows from options and launcher."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from train.options import TrainerOptions
from train.processes.strategy import ExplicitAveraging, num_processes, strategy_for


@pytest.mark.parametrize(
    ("devices", "num_nodes", "accelerator", "expected"),
    [
        (1, 1, "cpu", 1),
        (4, 1, "gpu", 4),
        ("4", 1, "gpu", 4),
        ("0,1,3", 1, "gpu", 3),
        ("0,", 1, "gpu", 1),  # Lightning reads it as the device with this index
        ((0, 2), 1, "gpu", 2),
        (2, 3, "gpu", 6),
        ((0, 1), 2, "gpu", 4),
        ("auto", 1, "cpu", 1),
        (-1, 1, "cpu", 1),
        ("-1", 2, "cpu", 2),
    ],
)
def test_options_of_the_trainer_say_how_many_processes_there_are(
    devices: Any, num_nodes: int, accelerator: Any, expected: int
) -> None:
    chosen = TrainerOptions(accelerator, devices, num_nodes).chosen_devices
    assert num_processes(chosen, accelerator, num_nodes, {}) == expected


@pytest.mark.parametrize("devices", ["auto", -1, "-1"])
def test_all_devices_are_all_gpus_where_there_are_some(devices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    for accelerator, expected in (("auto", 8), ("gpu", 8), ("cuda", 8), ("cpu", 1)):
        assert num_processes(TrainerOptions(devices=devices).chosen_devices, accelerator, 1, {}) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "4"}, 4),  # torchrun
        ({"WORLD_SIZE": "4"}, 1),  # left over from something else
        ({"SLURM_JOB_NAME": "train", "SLURM_NTASKS": "16"}, 16),
        ({"SLURM_JOB_NAME": "bash", "SLURM_NTASKS": "16"}, 1),  # an interactive shell, as Lightning takes it
        ({"SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "16"}, 1),
        ({"SLURM_NTASKS": "16"}, 1),
        ({}, 1),
    ],
)
def test_a_launcher_says_how_many_processes_it_started(environment: dict[str, str], expected: int) -> None:
    assert num_processes(-1, "cpu", 1, environment) == expected


def test_only_several_processes_need_a_strategy_and_it_wraps_no_network() -> None:
    assert strategy_for(1) == "auto"
    strategy = strategy_for(2)
    assert isinstance(strategy, ExplicitAveraging)
    strategy.configure_ddp()
    assert strategy.model is None


def test_a_process_that_has_done_its_work_but_does_not_end_is_killed_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("train.processes.strategy.SECONDS_TO_END", 0.1)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    strategy: Any = ExplicitAveraging()
    monkeypatch.setattr(strategy, "barrier", lambda: None)
    ended = []
    strategy.watch = SimpleNamespace(stop=lambda: ended.append("watch"))
    strategy._children = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])]
    strategy.end_processes()
    assert ended == ["watch"] and strategy._children[0].wait(60) == -9
    assert capsys.readouterr().out == "warning: process 1 had done its work but did not end; it was killed\n"
