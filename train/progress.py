"""What both stages share of a run's state: images seen, running means, the entry in the checkpoint."""

from typing import Any

import torch

from models.architecture import Architecture
from models.checkpoints import FORMAT, Kind, lightning_entry
from train.meters import Meters
from train.optimization import Updated
from train.skipped_updates import SkippedUpdates


class Progress:
    """Counts the images of a run and keeps what its updates logged.

    Args:
        seed: Of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.images_seen = 0
        self.meters = Meters()
        self.skipped = SkippedUpdates()

    def log(self, network: str, updated: Updated) -> None:
        """Notes an update of "generator" or "discriminator" in the iteration that began at `images_seen`."""
        self.meters.add({f"{network}/{name}": value for name, value in updated.logged.items()})
        self.skipped.add(network, self.images_seen, updated.skipped)

    def to(self, device: torch.device) -> None:
        """Moves what was restored: Lightning reads a checkpoint before it moves the networks."""
        self.meters.to(device)
        self.skipped.to(device)

    def store(
        self, checkpoint: dict[str, Any], kind: Kind, architecture: Architecture, minibatch_group_size: int | None
    ) -> None:
        """Writes itself and what `models.read_checkpoint` needs into a Lightning checkpoint."""
        checkpoint["images_seen"] = self.images_seen
        checkpoint["seed"] = self.seed
        checkpoint["meters"] = self.meters.state()
        checkpoint["skipped"] = self.skipped.state()
        checkpoint[FORMAT] = lightning_entry(kind, architecture, minibatch_group_size)

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Takes back what `store` wrote.

        Raises:
            ValueError: The checkpoint belongs to a run with another seed.
        """
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
