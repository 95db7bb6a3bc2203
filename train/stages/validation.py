"""Validation of both stages by the averaged generator: what a prior draws and how far it is from faces, and what GPEN
restores.

Each writes validation.csv and pictures, and tells the checkpoints how good the network is.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from data.dataset import FaceImages
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.choice import SetMetric, choose_metrics, fid_metric, lite0_metric
from evaluation.metrics.perceptual import SetDistance, load_inception
from evaluation.protocol import Evaluator, FacePictures, FaceRow
from evaluation.reports.pictures import comparison_rows, picture_grid, write_png
from inference.drawing import sample
from losses.imagenet_features import PerceptualLoss
from system.live_progress import ignore_step, live_progress
from system.wording import counted
from train.processes.strategy import average_over_processes, rank_and_count, wait_for_processes
from train.reporting.console import Reporting
from train.reporting.tracking import CsvLog, read_table
from train.run.settings import last_kept_row

if TYPE_CHECKING:
    from train.stages.prior import PriorTraining
    from train.stages.restoration import RestorationTraining

NUM_SAMPLES = 32
NUM_COLUMNS = 8
FALLBACK = "fd_lite0"
MOST_FALLBACK_IMAGES = 256
"""On a CPU, where each takes 50 ms with its real counterpart; the figure is for comparisons within a run."""


class PriorPictures(Callback):
    """Writes samples/images_….png and FID to validation.csv; without Inception's weights fd_lite0 stands in for it.

    A run keeps the distance it began with: the best network is told by one measure.
    """

    def __init__(self, training: "PriorTraining", reporting: Reporting) -> None:
        self.training = training
        self.settings = reporting.settings
        self.reporting = reporting
        self._metric: SetMetric | None = None
        self._real_faces: SetDistance | None = None
        self._table = reporting.settings.folder / "validation.csv"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for Inception weights, which all processes need to share the faces, and draws the first samples."""
        if self.training.fid_num_images > 0:
            self._metric = self._choose_metric(trainer, pl_module.device)
        images_seen = self.training.progress.images_seen
        last = last_kept_row(images_seen, self.reporting.data.batch_size, self.settings.validate_every_images)
        if trainer.is_global_zero and self._table.is_file() and last < images_seen:
            CsvLog(self._table, last)
        if images_seen == 0:
            self._draw(trainer)

    def _choose_metric(self, trainer: Trainer, device: torch.device) -> SetMetric | None:
        """The same in every process: FID where all have its network, and where no earlier part of the run had not."""
        inception, reason = None, "this run began with fd_lite0"
        is_begun = any(f"validation/{FALLBACK}" in row for row in read_table(self._table).values())
        for is_first in (True, False):  # the first process alone downloads what the others then find
            if trainer.is_global_zero == is_first and not is_begun:
                try:
                    inception = load_inception().to(device)
                except (ImportError, OSError, ValueError) as error:
                    reason = str(error)
            wait_for_processes()
        if average_over_processes(torch.tensor(float(inception is not None), device=device)).item() == 1:
            assert inception is not None
            return fid_metric(inception)
        try:
            metric = lite0_metric(PerceptualLoss().to(device))
        except (ImportError, OSError) as error:
            print(f"FID and {FALLBACK} are off: {reason}; {error}", flush=True)
            return None
        if trainer.is_global_zero:
            print(f"{FALLBACK} of at most {MOST_FALLBACK_IMAGES} faces stands in for FID: {reason}", flush=True)
        return metric

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draws if a multiple of `validate_every_images` was passed, and at the end of the run."""
        if self.training.progress.is_due(self.settings.validate_every_images, self.settings.total_images):
            with self.training.progress.pause():
                self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        images_seen = self.training.progress.images_seen
        values: dict[str, float] = {}
        if self._metric is not None and images_seen > 0:
            values = self._distances(self._metric)
            self.reporting.tracking.checkpoints.offer_best(-next(iter(values.values())), images_seen)
        if not trainer.is_global_zero:
            return
        if values:
            CsvLog(self._table, images_seen).append(images_seen, values)
            found = "  ".join(f"{name.removeprefix('validation/')} {value:.4g}" for name, value in values.items())
            print(f"{images_seen:>11,} images: drawn beside real faces  {found}", flush=True)
        drawn = model_to_uint8(sample(self.training.ema, self.settings.seed, range(NUM_SAMPLES)))
        picture = picture_grid(drawn, NUM_COLUMNS)
        self.reporting.tracking.log_validation(values, "samples", picture, images_seen)
        write_png(self.settings.folder / "samples" / f"images_{images_seen:012}.png", picture)

    def _distances(self, metric: SetMetric) -> dict[str, float]:
        """Measures the whole set, of which each process draws and reads its share."""
        resolution = self.training.architecture.resolution
        faces = self.reporting.data.run_images(resolution, flip_probability=0.0)
        distance, real_faces = metric.begin(), self._real_faces or metric.begin()
        total = min(self.training.fid_num_images, len(faces.images))  # each photograph at most once
        if FALLBACK in metric.definitions:
            total = min(total, MOST_FALLBACK_IMAGES)
        rank, num_processes = rank_and_count()
        own = range(rank, total, num_processes)
        title = "measuring the prior"
        with live_progress(title, len(own), as_lines=True) if rank == 0 else nullcontext(ignore_step) as on_step:
            for first in range(0, len(own), 32):
                on_step(title, first, len(own))
                indices = own[first : first + 32]
                drawn = model_to_uint8(sample(self.training.ema, self.settings.seed, indices, "fid"))
                distance.add_images(drawn)
                if self._real_faces is None:  # their features stay the same throughout the run
                    real_faces.add_targets(torch.stack([faces[index].target for index in indices]).to(drawn.device))
        self._real_faces = real_faces
        return {f"validation/{name}": value for name, value in distance.values(real_faces).items()}


SEED = 0
"""Of the degradation of validation faces: the same for every run, so that runs can be compared."""
NUM_PICTURED, NUM_REAL_PICTURED = 6, 8
"""Validation faces and real low-quality faces in the pictures."""
STATES = ("degraded", "restored", "target")


class RestorationValidation(Callback):
    """Writes validation.csv and pictures/images_….png; tells the checkpoints the PSNR."""

    def __init__(self, training: "RestorationTraining", reporting: Reporting) -> None:
        self.training = training
        self.settings = reporting.settings
        self.reporting = reporting
        self._evaluator: Evaluator | None = None
        self._log: CsvLog | None = None
        self._real_names: list[str] = []  # of low-quality faces without targets, and as they are, uint8 [N, 3, R, R]
        self._real = torch.empty(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Degrades the validation faces once and measures the start."""
        if not trainer.is_global_zero:
            return
        module = self.training
        resolution = module.architecture.resolution
        pairs = self.reporting.data.validation_pairs(resolution, module.degradation, SEED)
        real = self.reporting.data.photographs.real
        if real is not None:  # the first ones by name
            images, self._real_names = FaceImages(real, resolution), real.names[:NUM_REAL_PICTURED]
            self._real = torch.stack([images[index] for index in range(len(self._real_names))])
        metrics = choose_metrics(("psnr", "ssim", "lpips"), module.device)
        with live_progress(f"degrading {counted(len(pairs), 'validation face')}", as_lines=True):
            self._evaluator = Evaluator(replace(pairs, kept=tuple(pairs)), metrics)
        for name, reason in metrics.unavailable.items():
            print(f"{name.upper()} is off: {reason}", flush=True)
        images_seen, every_images = module.progress.images_seen, self.settings.validate_every_images
        last = last_kept_row(images_seen, self.reporting.data.batch_size, every_images)
        self._log = CsvLog(self.settings.folder / "validation.csv", last)
        if module.progress.images_seen == 0:
            self._validate()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validates if a multiple of `validate_every_images` was passed, and at the end of the run."""
        if self.training.progress.is_due(self.settings.validate_every_images, self.settings.total_images):
            with self.training.progress.pause():
                if trainer.is_global_zero:
                    self._validate()

    def _validate(self) -> None:
        assert self._evaluator is not None and self._log is not None  # set by on_train_start
        images_seen, number = self.training.progress.images_seen, len(self._evaluator.pairs)
        with live_progress("validating", number, as_lines=True) as on_step:
            evaluation = self._evaluator.evaluate(
                self._restore,
                num_extremes=0,
                num_first=NUM_PICTURED,
                on_progress=lambda done: on_step("validating", done, number),
            )
        values = {f"degraded/{name}": value.mean for name, value in evaluation.degraded.items()}
        values |= {f"validation/{name}": value.mean for name, value in evaluation.restored.items()}
        self.reporting.tracking.checkpoints.offer_best(evaluation.restored["psnr"].mean, images_seen)
        self._log.append(images_seen, values)
        faces = evaluation.first
        picture = comparison_rows([torch.stack([getattr(face, state) for face in faces]) for state in STATES], STATES)
        real = self._picture_real_faces(images_seen)
        self.reporting.tracking.log_validation(values, "pictures", picture, images_seen, [*faces, *real])
        write_png(self.settings.folder / "pictures" / f"images_{images_seen:012}.png", picture)
        line = "  ".join(
            f"{name} {value.mean:.4g} (degraded {evaluation.degraded[name].mean:.4g})"
            for name, value in evaluation.restored.items()
        )
        print(f"{images_seen:>11,} images: validation of {counted(len(evaluation.rows), 'face')}  {line}", flush=True)

    def _restore(self, degraded: Tensor) -> Tensor:
        return self.training.restore(self.training.ema, degraded.to(self.training.device))

    def _picture_real_faces(self, images_seen: int) -> list[FacePictures]:
        """Restores the real faces, writes their picture, a face a row, and gives them as faces without figures."""
        if not self._real_names:
            return []
        with torch.no_grad():
            restored = model_to_uint8(self._restore(uint8_to_model(self._real)).cpu())
        picture = comparison_rows([self._real, restored], ("degraded", "restored"), self._real_names)
        write_png(self.settings.folder / "pictures" / f"real_{images_seen:012}.png", picture)
        self.reporting.tracking.log_picture("real faces", picture, images_seen)
        rows = [FaceRow(f"real: {name}", {}, {}) for name in self._real_names]
        return [FacePictures(*face, None) for face in zip(rows, self._real, restored, strict=True)]
