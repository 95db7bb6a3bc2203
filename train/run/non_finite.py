"""What is kept of updates that were skipped because loss or gradient were not finite, so that they can be repeated."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning import Trainer

from models.files.run_folder import checkpoints_in, images_of, write_sealed
from system import atomic_file
from system.command_line import print_names
from train.run.progress import Skipped

MOST_DUMPS = 3
"""Later ones of a run are only counted."""
REPORT, STATE, BEFORE = "report.json", "state.ckpt", "before.ckpt"


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


def dump_non_finite(run_folder: Path, trainer: Trainer, skipped: Mapping[str, Skipped], images_seen: int) -> None:
    """Writes `non_finite/images_…/` for the first update that was skipped since the last log row.

    The images of an iteration, their degradation, latents and noise follow from its image indices, so these and a state
    of the networks are all that is needed. Two states are kept: `state.ckpt`, the run when the skip was noticed, set
    back to the iteration, which repeats it at once where it still occurs; and `before.ckpt`, the last checkpoint before
    it (a link, which costs no space), from which the run gets there again bit for bit. All processes call it together.
    """
    beginnings = [first for updates in skipped.values() for first in updates.images_seen[:1]]
    if not beginnings:
        return
    first = min(beginnings)
    folder = run_folder / "non_finite" / f"images_{first:012}"
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    if not trainer.is_global_zero or folder.exists() or len(list(folder.parent.glob("images_*"))) >= MOST_DUMPS:
        return
    nothing = {"updates": [], "flags": [], "row": dict.fromkeys(skipped, 0)}
    checkpoint |= {"images_seen": first, "meters": [], "skipped": nothing}
    with atomic_file.replacing(folder / STATE) as temporary:
        write_sealed(checkpoint, temporary)
    earlier = [
        path for path in checkpoints_in(run_folder / "checkpoints") if images_of(path) <= first and path.is_file()
    ]
    if earlier:
        _link(earlier[-1], folder / BEFORE)
    report = {
        "skipped_updates_at_images_seen": {network: updates.images_seen for network, updates in skipped.items()},
        "longest_row": {network: updates.longest_row for network, updates in skipped.items()},
        "first": first,
        "noticed_at": images_seen,
        "before": earlier[-1].name if earlier else None,
        "repeat_with": f"python -m scripts.replay_update {folder}",
    }
    atomic_file.write_atomically(folder / REPORT, json.dumps(report, indent=2) + "\n")
    print_names(f"skipped updates: loss or gradient not finite from image {first:,} on; {report['repeat_with']}")


def _link(source: Path, target: Path) -> None:
    """A second name for a file that stays when the first is removed; a copy where the file system knows no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
