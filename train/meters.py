"""Means of what a run logs, kept on the device until somebody reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from train.processes import average_over_processes, gather_from_processes, rank_and_count

Names = tuple[str, ...]


class Meters:
    """Sums of finite values and their counts, since the last reading; values that are added together share a tensor."""

    def __init__(self) -> None:
        self._totals: dict[Names, Tensor] = {}  # [2, names]: sums, counts

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one scalar per name, without waiting for the device; what is not finite is left out."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        is_finite = torch.isfinite(stacked)
        new = torch.stack([stacked.where(is_finite, 0.0), is_finite.float()])
        names = tuple(values)
        self._totals[names] = self._totals[names] + new if names in self._totals else new

    def read(self) -> dict[str, float]:
        """Returns the means over the time since the last reading and over all processes, and starts again.

        NaN where no value was finite.
        """
        if not self._totals:
            return {}
        totals = average_over_processes(torch.cat(list(self._totals.values()), dim=1))
        by_name: dict[str, list[Tensor]] = {}
        for name, column in zip((name for group in self._totals for name in group), totals.cpu().T, strict=True):
            by_name.setdefault(name, []).append(column)
        self._totals.clear()
        sums = {name: torch.stack(columns).sum(0) for name, columns in sorted(by_name.items())}
        return {name: (total / count).item() for name, (total, count) in sums.items()}

    def state(self) -> list[tuple[Names, Tensor]]:
        """For a checkpoint: the totals of every process, [processes, 2, names]. All processes call it together."""
        return [(names, gather_from_processes(totals).cpu()) for names, totals in self._totals.items()]

    def restore(self, state: Sequence[Any]) -> None:
        """Takes back what `state` returned; another number of processes shares the totals evenly."""
        rank, num_processes = rank_and_count()
        for names, totals in state:
            own = totals[rank] if len(totals) == num_processes else totals.mean(dim=0)
            self._totals[tuple(names)] = own

    def to(self, device: torch.device | str) -> None:
        """Moves what was restored to where values will be added."""
        self._totals = {names: totals.to(device) for names, totals in self._totals.items()}
