"""How far a run is and how well it goes: images seen, running means, skipped updates, the time that was no training."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from train.processes.strategy import average_over_processes, gather_from_processes, rank_and_count, wait_for_processes
from train.run.settings import has_all_images, is_passed
from train.updates.optimization import Updated


class Progress:
    """Counts the images of a run and keeps what its updates logged."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.images_seen = 0
        self.batch_size = 0
        """Images of the last iteration, over all processes."""
        self.paused_seconds = 0.0
        """Time of this process that was no training; equal in all of them but for microseconds."""
        self.meters = Meters()
        self.skipped = SkippedUpdates()
        self.in_force: dict[str, float] = {}
        """What changes over the run by a schedule, as it was in the last iteration, for the log."""

    def log(self, network: str, updated: Updated) -> None:
        """Notes an update of "generator" or "discriminator" in the iteration that began at `images_seen`."""
        self.meters.add({f"{network}/{name}": value for name, value in updated.logged.items()})
        self.skipped.add(network, self.images_seen, updated.skipped)

    def advance(self, num_images: int) -> None:
        """Counts the images of an iteration of all processes."""
        self.images_seen += num_images
        self.batch_size = num_images

    def has_passed(self, every_images: int) -> bool:
        """Tells whether the last iteration reached or crossed a multiple of so many images."""
        return is_passed(self.images_seen, self.batch_size, every_images)

    def is_due(self, every_images: int, total_images: int) -> bool:
        """Tells whether the last iteration passed a multiple of so many images, or was the last one of the run."""
        return self.has_passed(every_images) or has_all_images(self.images_seen, self.batch_size, total_images)

    @contextmanager
    def unread(self) -> Iterator[None]:
        """What is read inside, of meters and skipped updates, counts as not read afterwards."""
        totals, skipped = self.meters.totals, self.skipped.state()
        yield
        self.meters.totals = totals
        self.skipped.restore(skipped)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Takes what happens inside out of the speed of training; all processes enter, and leave it together.

        Often only the first has work to do: the others would else wait for it in the next iteration, and count that.
        """
        start = time.perf_counter()
        yield
        wait_for_processes()
        self.paused_seconds += time.perf_counter() - start

    def to(self, device: torch.device) -> None:
        """Moves what was restored: Lightning reads a checkpoint before it moves the networks."""
        self.meters.to(device)
        self.skipped.to(device)

    def store(self, checkpoint: dict[str, Any]) -> None:
        """Writes itself into a Lightning checkpoint."""
        checkpoint["images_seen"] = self.images_seen
        checkpoint["seed"] = self.seed
        checkpoint["meters"] = self.meters.state()
        checkpoint["skipped"] = self.skipped.state()

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Takes back what `store` wrote; ValueError where the checkpoint belongs to a run with another seed."""
        if checkpoint["seed"] != self.seed:
            raise ValueError(
                f"the checkpoint belongs to a run with seed {checkpoint['seed']}, not {self.seed}; "
                "use that seed or another run folder"
            )
        self.images_seen = checkpoint["images_seen"]
        self.meters.restore(checkpoint["meters"])
        self.skipped.restore(checkpoint["skipped"])
        # Lightning would skip batches to the position it stored; our sampler starts at images_seen by itself.
        checkpoint.pop("loops", None)


Names = tuple[str, ...]


class Meters:
    """Sums of finite values and their counts, since the last reading; values that are added together share a tensor."""

    def __init__(self) -> None:
        self.totals: dict[Names, Tensor] = {}
        """[2, names]: sums and counts; replaced, never changed."""

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one scalar per name, without waiting for the device; what is not finite is left out."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        is_finite = torch.isfinite(stacked)
        new = torch.stack([stacked.where(is_finite, 0.0), is_finite.float()])
        names = tuple(values)
        self.totals = self.totals | {names: self.totals[names] + new if names in self.totals else new}

    def read(self) -> dict[str, float]:
        """Returns the means over the time since the last reading and over all processes, and starts again.

        NaN where no value was finite.
        """
        if not self.totals:
            return {}
        totals = average_over_processes(torch.cat(list(self.totals.values()), dim=1))
        by_name: dict[str, list[Tensor]] = {}
        for name, column in zip((name for group in self.totals for name in group), totals.cpu().T, strict=True):
            by_name.setdefault(name, []).append(column)
        self.totals = {}
        sums = {name: torch.stack(columns).sum(0) for name, columns in sorted(by_name.items())}
        return {name: (total / count).item() for name, (total, count) in sums.items()}

    def state(self) -> list[tuple[Names, Tensor]]:
        """Gives a checkpoint the totals of every process, [processes, 2, names]; all processes call it together."""
        return [(names, gather_from_processes(totals).cpu()) for names, totals in self.totals.items()]

    def restore(self, state: Sequence[Any]) -> None:
        """Takes back what `state` returned; another number of processes shares the totals evenly."""
        rank, num_processes = rank_and_count()
        for names, totals in state:
            own = totals[rank] if len(totals) == num_processes else totals.mean(dim=0)
            self.totals = self.totals | {tuple(names): own}

    def to(self, device: torch.device | str) -> None:
        """Moves what was restored to where values will be added."""
        self.totals = {names: totals.to(device) for names, totals in self.totals.items()}


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
        """Notes an update of a network in the iteration that began at `images_seen`; `skipped` is a scalar, 1 or 0."""
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
        """Gives a checkpoint what a continued run needs of it."""
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


LARGEST_SENSIBLE = 1e6
"""Losses and scores stay below a hundred where training works: beyond it nothing is learned any more."""


class Divergence:
    """Looks whether losses and scores have left every sensible range, from the rows that are logged anyway; they may
    stay outside for `patience` iterations, from the first such row to a later one."""

    def __init__(self, patience: int, batch_size: int) -> None:
        self.patience = patience
        self.batch_size = batch_size
        self._since: int | None = None

    def look(self, values: Mapping[str, float], images_seen: int) -> str:
        """Takes a row; penalties and norms of gradients do not count, as these may be large for a while. Returns what
        is to be said at the first row outside, else nothing; ValueError where values have been outside for too long."""
        terms = {n: v for n, v in values.items() if n.startswith(("generator/", "discriminator/"))}
        ignored = ("gradient_norm", "penalty", "path_length", "skipped")
        outside = {n: v for n, v in terms.items() if abs(v) > LARGEST_SENSIBLE and not n.endswith(ignored)}
        if not outside:
            self._since = None
            return ""
        name, value = max(outside.items(), key=lambda item: abs(item[1]))
        text = f"training diverges: {name} is {value:.1e} at image {images_seen:,}"
        if self._since is None:
            self._since = images_seen
            return f"{text}; the run ends if it stays above {LARGEST_SENSIBLE:.0e}"
        if images_seen - self._since >= self.patience * self.batch_size:
            raise ValueError(
                f"{text} and has been above {LARGEST_SENSIBLE:.0e} since image {self._since:,}; lower the learning "
                "rates and begin again, or continue from an earlier checkpoint in another --run.folder"
            )
        return ""
