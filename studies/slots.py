"""Sharing a machine among runs: each slot has cores, and GPUs where there are some, of its own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")


@dataclass(frozen=True)
class Slot:
    """What one run at a time may use."""

    number: int
    """From 0."""
    cores: tuple[int, ...]
    """Of the CPU."""
    gpus: tuple[str, ...]
    """As CUDA_VISIBLE_DEVICES names them; empty without GPUs."""

    def environment(self) -> dict[str, str]:
        """Variables of a run's process: threads as many as cores, since more than that collapse beside each other."""
        variables = dict(os.environ)
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        else:
            variables["OMP_NUM_THREADS"] = str(len(self.cores))
        return variables

    def options(self) -> list[str]:
        """Arguments of `python -m train fit`."""
        return ["--trainer.devices", str(len(self.gpus))] if self.gpus else []


def share_machine(num_slots: int) -> list[Slot]:
    """Divides the cores this process may use, and the GPUs it sees, evenly.

    Args:
        num_slots: Runs at a time.

    Raises:
        ValueError: There are fewer cores, or fewer GPUs where there are GPUs, than runs.
    """
    cores = sorted(os.sched_getaffinity(0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(index) for index in range(torch.cuda.device_count())]
    if gpus and visible:
        gpus = visible.split(",")[: len(gpus)]
    most = len(gpus) or len(cores)
    if not 1 <= num_slots <= most:
        raise ValueError(f"--at-once must be from 1 to {most} here, the {'GPUs' if gpus else 'cores'}, got {num_slots}")
    return [
        Slot(index, tuple(_part(cores, index, num_slots)), tuple(_part(gpus, index, num_slots)))
        for index in range(num_slots)
    ]


def _part(items: Sequence[Item], index: int, count: int) -> Sequence[Item]:
    size = len(items) // count
    return items[index * size : (index + 1) * size]
