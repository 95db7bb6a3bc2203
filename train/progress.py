"""What both stages share of a run's state: images seen, running means, the entry in the checkpoint."""

from typing import Any

from models.architecture import Architecture
from models.checkpoints import FORMAT, Kind, lightning_entry
from train.meters import Meters


class Progress:
    """Counts the images of a run and keeps its meters.

    Args:
        seed: Of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.images_seen = 0
        self.meters = Meters()

    def store(
        self, checkpoint: dict[str, Any], kind: Kind, architecture: Architecture, minibatch_group_size: int | None
    ) -> None:
        """Writes itself and what `models.read_checkpoint` needs into a Lightning checkpoint."""
        checkpoint["images_seen"] = self.images_seen
        checkpoint["seed"] = self.seed
        checkpoint["meters"] = self.meters.state()
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
        # Lightning would skip batches to the position it stored; our sampler starts at images_seen by itself.
        checkpoint.pop("loops", None)
