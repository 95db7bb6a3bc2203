"""Checkpoints of a run, written whole or not at all, with a checksum, found again by the same command; and what is kept
of updates that were skipped because loss or gradient were not finite, so that they can be repeated."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from models.files.run_folder import CHECKPOINTS, checkpoint_path, checkpoints_in, images_of, write_sealed
from system.atomic_file import remove_aside, replacing, write_atomically
from system.command_line import print_names
from train.processes.strategy import EndingSignals
from train.run.progress import Progress, Skipped
from train.run.settings import RunSettings, last_kept_row

MOST_DUMPS = 3
"""Later ones of a run are only counted."""
REPORT, STATE, BEFORE = "report.json", "state.ckpt", "before.ckpt"


class RunCheckpoints(Callback):
    """Writes checkpoints by images seen, at the end and on SIGTERM; keeps the latest and the best."""

    def __init__(self, settings: RunSettings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self.folder = settings.folder / CHECKPOINTS
        self.best: tuple[float, int] | None = None
        """The best validation figure so far and its images."""
        self._best_on_rhythm: tuple[float, int] | None = None  # without a validation that only the run's end brought
        self.written = -1
        """Images seen when the last checkpoint of this session was written, -1 before."""
        self.signals = EndingSignals(settings.max_minutes)

    def state_dict(self) -> dict[str, Any]:
        """The best validation figures so far and their images."""
        return {"best": self.best, "best_on_rhythm": self._best_on_rhythm}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back `state_dict`: a run that goes on is one that had not ended."""
        self.best = self._best_on_rhythm = state_dict.get("best_on_rhythm", state_dict["best"])

    def offer_best(self, figure: float, images_seen: int) -> None:
        """Says how good the network is at this moment (higher is better); validation calls it before the checkpoint.

        What a run starts from does not count: no checkpoint of the run holds it.
        """
        if images_seen > 0 and (self.best is None or figure > self.best[0]):
            self.best = (figure, images_seen)
            if last_kept_row(images_seen, self.progress.batch_size, self.settings.validate_every_images) == images_seen:
                self._best_on_rhythm = self.best

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on signals end the run after the iteration, with a checkpoint; removes what a kill left behind."""
        self.signals.listen()
        if trainer.is_global_zero:
            for half_written in self.folder.glob(".images_*.ckpt"):
                half_written.unlink()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes a checkpoint if a multiple of `checkpoint_every_images` was passed; ends the run after a signal."""
        images_seen = self.progress.images_seen
        is_due = self.progress.has_passed(self.settings.checkpoint_every_images)
        is_best_now = False
        if self.progress.has_passed(self.settings.validate_every_images):  # the first process knows the figure
            is_best_now = trainer.strategy.broadcast(self.best is not None and self.best[1] == images_seen)
        if is_due or is_best_now:
            self._write(trainer)
        if self.signals.should_end(trainer, images_seen // self.progress.batch_size):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the last checkpoint."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if self.progress.images_seen == self.written:
            return
        with self.progress.pause():
            self._write_together(trainer, self.progress.images_seen)

    def _write_together(self, trainer: Trainer, images_seen: int) -> None:
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        problem = ""
        if trainer.is_global_zero:
            try:
                target = checkpoint_path(self.folder, images_seen)
                if target.is_dir():  # it was passed over when the run continued
                    target.rename(target.with_name(f"{target.name}.folder"))
                with replacing(target) as temporary:
                    write_sealed(checkpoint, temporary)
                self._remove_old(images_seen)
                remove_aside(self.settings.folder)  # a run that this one replaces
            except OSError as error:
                problem = f"{error.strerror or error}"
        problem = trainer.strategy.broadcast(problem)  # the other processes wait here, and end as well
        if problem:
            raise OSError(
                f"the checkpoint after {images_seen:,} images cannot be written to {self.folder}: {problem}; earlier "
                "ones are untouched; make room or change the permissions and repeat the command"
            )
        self.written = images_seen

    def _remove_old(self, images_seen: int) -> None:
        """Keeps the latest and the best ones; what lies beyond the run's progress is damaged and stays."""
        paths = _checkpoints_up_to(images_seen, self.folder)
        best = {checkpoint_path(self.folder, best[1]) for best in (self.best, self._best_on_rhythm) if best}
        for path in set(paths[: -self.settings.keep_checkpoints]) - best:
            path.unlink()


def _checkpoints_up_to(images_seen: int, folder: Path) -> list[Path]:
    return [path for path in checkpoints_in(folder) if images_of(path) <= images_seen and path.is_file()]


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that stays when the first is removed; a copy where the file system knows no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


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
    with replacing(folder / STATE) as temporary:
        write_sealed(checkpoint, temporary)
    earlier = _checkpoints_up_to(first, run_folder / CHECKPOINTS)
    if earlier:
        link_or_copy(earlier[-1], folder / BEFORE)
    report = {
        "skipped_updates_at_images_seen": {network: updates.images_seen for network, updates in skipped.items()},
        "longest_row": {network: updates.longest_row for network, updates in skipped.items()},
        "first": first,
        "noticed_at": images_seen,
        "before": earlier[-1].name if earlier else None,
        "repeat_with": f"python -m scripts.replay_update {folder}",
    }
    write_atomically(folder / REPORT, json.dumps(report, indent=2) + "\n")
    print_names(f"skipped updates: loss or gradient not finite from image {first:,} on; {report['repeat_with']}")
