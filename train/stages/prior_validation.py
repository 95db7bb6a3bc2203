"""Validation of stage 1: what the averaged prior draws from fixed latents; FID where Inception weights can be had."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from data.ranges import model_to_uint8
from evaluation.metrics.fid import FrechetDistance, load_inception
from evaluation.reports.pictures import picture_grid, write_png
from inference.drawing import sample
from system.live_progress import live_progress, say_nothing
from train.processes.strategy import average_over_processes, rank_and_count, wait_for_processes
from train.reporting.console import Reporting
from train.reporting.csv_log import CsvLog
from train.run.checkpoints import RunCheckpoints
from train.run.settings import RunSettings, last_kept_row

if TYPE_CHECKING:
    from train.stages.prior import PriorTraining

NUM_SAMPLES = 32
NUM_COLUMNS = 8


class PriorPictures(Callback):
    """Writes samples/images_….png and, if possible, FID to validation.csv.

    Args:
        training: Whose averaged prior draws.
        settings: Of the run.
        reporting: Its trackers get samples and FID.
        checkpoints: Get the FID.
    """

    def __init__(
        self,
        training: "PriorTraining",
        settings: RunSettings,
        reporting: Reporting,
        checkpoints: RunCheckpoints,
    ) -> None:
        self.training = training
        self.settings = settings
        self.reporting = reporting
        self.checkpoints = checkpoints
        self._inception: torch.nn.Module | None = None
        self._table = settings.folder / "validation.csv"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for Inception weights, which all processes need to share the faces, and draws the first samples."""
        if self.training.fid_num_images > 0:
            for is_first in (True, False):  # the first process alone downloads what the others then find
                if trainer.is_global_zero == is_first:
                    self._load_inception(pl_module.device)
                wait_for_processes()
            has_one = torch.tensor(float(self._inception is not None), device=pl_module.device)
            if average_over_processes(has_one).item() < 1:
                self._inception = None
        images_seen = self.training.progress.images_seen
        last = last_kept_row(images_seen, self.reporting.data.batch_size, self.settings.validate_every_images)
        if trainer.is_global_zero and self._table.is_file() and last < images_seen:
            CsvLog(self._table, last)
        if images_seen == 0:
            self._draw(trainer)

    def _load_inception(self, device: torch.device) -> None:
        try:
            self._inception = load_inception().to(device)
        except (ImportError, OSError, ValueError) as error:
            print(f"FID is off: {error}", flush=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draws if a multiple of `validate_every_images` was passed, and at the end of the run."""
        if self.training.progress.is_due(self.settings.validate_every_images, self.settings.total_images):
            with self.training.progress.pause():
                self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        images_seen = self.training.progress.images_seen
        values = {}
        if self._inception is not None and images_seen > 0:
            fid = self._distance(self._inception)
            self.checkpoints.offer_best(-fid, images_seen)
            values = {"validation/fid": fid}
        if not trainer.is_global_zero:
            return
        if values:
            CsvLog(self._table, images_seen).append(images_seen, values)
        drawn = model_to_uint8(sample(self.training.ema, self.settings.seed, range(NUM_SAMPLES)))
        picture = picture_grid(drawn, NUM_COLUMNS)
        self.reporting.tracking.log_validation(values, "samples", picture, images_seen)
        write_png(self.settings.folder / "samples" / f"images_{images_seen:012}.png", picture)

    def _distance(self, inception: torch.nn.Module) -> float:
        """Gives the FID of the whole set, of which each process draws and reads its share."""
        resolution = self.training.architecture.resolution
        faces = self.reporting.data.run_images(resolution, flip_probability=0.0)
        distance = FrechetDistance(inception)
        total = min(self.training.fid_num_images, len(faces.images))  # each photograph at most once
        rank, num_processes = rank_and_count()
        own = range(rank, total, num_processes)
        with live_progress("measuring FID", len(own), as_lines=True) if rank == 0 else nullcontext(say_nothing) as tell:
            for first in range(0, len(own), 32):
                tell("measuring FID", first, len(own))
                indices = own[first : first + 32]
                drawn = model_to_uint8(sample(self.training.ema, self.settings.seed, indices, "fid"))
                real = torch.stack([faces[index].target for index in indices]).to(drawn.device)
                distance.add(drawn, real)
        return distance.value()
