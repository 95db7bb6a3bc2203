"""Means of what a run logs, kept on the device until somebody reads them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from train.processes import average_over_processes


class Meters:
    """Sums and counts by name, since the last reading."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one scalar per name, without waiting for the device."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Returns the means over the time since the last reading and over all processes, and starts again."""
        names = sorted(self._sums)
        if not names:
            return {}
        means = torch.stack([self._sums[name] / self._counts[name] for name in names])
        means = average_over_processes(means)
        self._sums.clear()
        self._counts.clear()
        return dict(zip(names, means.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {name: (self._sums[name].cpu(), self._counts[name]) for name in self._sums}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` returned."""
        self._sums = {name: total for name, (total, _) in state.items()}
        self._counts = {name: count for name, (_, count) in state.items()}

    def to(self, device: torch.device | str) -> None:
        """Moves what was restored to where values will be added."""
        self._sums = {name: total.to(device) for name, total in self._sums.items()}
