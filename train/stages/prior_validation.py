"""Validation of stage 1: what the averaged prior draws from fixed latents; FID where Inception weights can be had."""

import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from data.dataset import RunImages
from data.ranges import model_to_uint8
from evaluation.metrics.fid import FrechetDistance, load_inception
from evaluation.reports.pictures import picture_grid, write_png
from inference.drawing import sample
from train.reporting.console import Reporting
from train.reporting.csv_log import CsvLog
from train.run.checkpoints import RunCheckpoints
from train.run.settings import RunSettings, is_passed

NUM_SAMPLES = 32
NUM_COLUMNS = 8


class PriorPictures(Callback):
    """Writes samples/images_….png and, if possible, FID to validation.csv.

    Args:
        settings: Of the run.
        batch_size: Images per iteration over all processes.
        reporting: Told how long it took; its trackers get samples and FID.
        checkpoints: Told the FID.
        fid_num_images: Faces drawn and faces read for FID; 0 for none.
    """

    def __init__(
        self,
        settings: RunSettings,
        batch_size: int,
        reporting: Reporting,
        checkpoints: RunCheckpoints,
        fid_num_images: int = 10_000,
    ) -> None:
        self.settings = settings
        self.batch_size = batch_size
        self.reporting = reporting
        self.checkpoints = checkpoints
        self.fid_num_images = fid_num_images
        self._inception: torch.nn.Module | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for Inception weights and draws the first samples."""
        module: Any = pl_module
        if trainer.is_global_zero and self.fid_num_images > 0:
            try:
                self._inception = load_inception().to(pl_module.device)
            except (ImportError, OSError, ValueError) as error:
                print(f"FID is off: {error}", flush=True)
        if module.progress.images_seen == 0:
            self._draw(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draws if a multiple of `validate_every_images` was passed."""
        module: Any = pl_module
        images_seen = module.progress.images_seen
        if is_passed(images_seen, self.batch_size, self.settings.validate_every_images):
            start = time.perf_counter()
            self._draw(trainer, module)
            self.reporting.exclude_pause(time.perf_counter() - start)

    def _draw(self, trainer: Trainer, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        images_seen = module.progress.images_seen
        drawn = model_to_uint8(sample(module.ema, self.settings.seed, range(NUM_SAMPLES)))
        picture = picture_grid(drawn, NUM_COLUMNS)
        values = {}
        if self._inception is not None and images_seen > 0:
            data: Any = trainer
            faces = data.datamodule.run_images(module.architecture.resolution, flip_probability=0.0)
            fid = self._distance(module, faces)
            self.checkpoints.offer_best(-fid, images_seen)
            values = {"validation/fid": fid}
            CsvLog(self.settings.folder / "validation.csv", images_seen).append(images_seen, values)
        self.reporting.tracking.log_validation(values, "samples", picture, images_seen)
        write_png(self.settings.folder / "samples" / f"images_{images_seen:012}.png", picture)

    def _distance(self, module: Any, faces: RunImages) -> float:
        assert self._inception is not None  # the caller checked
        distance = FrechetDistance(self._inception)
        total = min(self.fid_num_images, len(faces.images))  # each photograph at most once
        for first in range(0, total, 32):
            indices = range(first, min(first + 32, total))
            drawn = model_to_uint8(sample(module.ema, self.settings.seed, indices, "fid"))
            real = torch.stack([faces[index].target for index in indices]).to(drawn.device)
            distance.add(drawn, real)
        return distance.value()
