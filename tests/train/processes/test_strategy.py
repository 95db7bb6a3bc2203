"""The number of processes follows from options and launcher."""

from types import SimpleNamespace

import pytest

from train.processes.strategy import ExplicitAveraging, num_processes, strategy_for


@pytest.mark.parametrize(
    ("devices", "num_nodes", "accelerator", "expected"),
    [
        (1, 1, "cpu", 1),
        (4, 1, "gpu", 4),
        ("4", 1, "gpu", 4),
        ("0,1,3", 1, "gpu", 3),
        ("0,", 1, "gpu", 1),  # Lightning reads it as the device with this index
        ([0, 2], 1, "gpu", 2),
        (2, 3, "gpu", 6),
        ([0, 1], 2, "gpu", 4),
        ("auto", 1, "cpu", 1),
        (-1, 1, "cpu", 1),
        ("-1", 2, "cpu", 2),
    ],
)
def test_options_of_the_trainer_say_how_many_processes_there_are(
    devices: object, num_nodes: int, accelerator: str, expected: int
) -> None:
    options = SimpleNamespace(devices=devices, num_nodes=num_nodes, accelerator=accelerator)
    assert num_processes(options, {}) == expected


@pytest.mark.parametrize("devices", ["auto", -1, "-1"])
def test_all_devices_are_all_gpus_where_there_are_some(devices: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    for accelerator, expected in (("auto", 8), ("gpu", 8), ("cuda", 8), ("cpu", 1)):
        options = SimpleNamespace(devices=devices, num_nodes=1, accelerator=accelerator)
        assert num_processes(options, {}) == expected


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
    options = SimpleNamespace(devices="auto", num_nodes=1, accelerator="cpu")
    assert num_processes(options, environment) == expected


def test_only_several_processes_need_a_strategy_and_it_wraps_no_network() -> None:
    assert strategy_for(1) == "auto"
    strategy = strategy_for(2)
    assert isinstance(strategy, ExplicitAveraging)
    strategy.configure_ddp()
    assert strategy.model is None
