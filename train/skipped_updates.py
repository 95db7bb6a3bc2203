"""Which updates were skipped because loss or gradient were not finite; read at the rhythm of the log."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NETWORKS = ("generator", "discriminator")


@dataclass(frozen=True)
class Skipped:
    """Updates of a network since the last reading."""

    images_seen: list[int]
    """Images seen at the start of the iterations in which updates were skipped."""
    longest_row: int
    """Most updates that were skipped one after the other, from before the last reading on."""


class SkippedUpdates:
    """Keeps the flags of all updates where they are, so that nothing waits for the device before somebody reads."""

    def __init__(self) -> None:
        self._updates: list[tuple[str, int]] = []
        self._flags: list[Tensor] = []
        self._row = dict.fromkeys(NETWORKS, 0)

    def add(self, network: str, images_seen: int, skipped: Tensor) -> None:
        """Notes an update.

        Args:
            network: Whose.
            images_seen: At the start of the iteration.
            skipped: Scalar, 1 or 0.
        """
        self._updates.append((network, images_seen))
        self._flags.append(skipped.reshape(1))
        if len(self._flags) == 256:  # a scalar on a GPU occupies 512 bytes
            self._flags = [torch.cat(self._flags)]

    def read(self) -> dict[str, Skipped]:
        """Returns what was skipped since the last reading, by network, and starts again; waits for the device."""
        skipped: dict[str, list[int]] = {network: [] for network in NETWORKS}
        longest = dict.fromkeys(NETWORKS, 0)
        for (network, images_seen), flag in zip(self._updates, self._values(), strict=True):
            self._row[network] = self._row[network] + 1 if flag else 0
            longest[network] = max(longest[network], self._row[network])
            if flag:
                skipped[network].append(images_seen)
        self._updates, self._flags = [], []
        return {network: Skipped(skipped[network], longest[network]) for network in NETWORKS}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"updates": list(self._updates), "flags": self._values(), "row": dict(self._row)}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` returned."""
        self._updates = [(network, images_seen) for network, images_seen in state["updates"]]
        self._flags = [torch.tensor(state["flags"])] if self._updates else []
        self._row = dict(state["row"])

    def to(self, device: torch.device | str) -> None:
        """Moves what was restored to where flags will be added."""
        self._flags = [flags.to(device) for flags in self._flags]

    def _values(self) -> list[float]:
        return torch.cat(self._flags).tolist() if self._flags else []
