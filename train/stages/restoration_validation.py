"""Validation of stage 2: PSNR, SSIM and LPIPS of the averaged generator on a fixed degraded set, and a picture."""

import time
from dataclasses import replace
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from evaluation.metrics.choice import choose_metrics
from evaluation.protocol import Evaluator, FacePairs
from evaluation.reports.pictures import comparison_rows, write_png
from train.reporting.console import Reporting
from train.reporting.csv_log import CsvLog
from train.run.checkpoints import RunCheckpoints
from train.run.settings import RunSettings, is_passed

SEED = 0
"""Of the degradation of validation faces: the same for every run, so that runs can be compared."""
NUM_PICTURED = 6
STATES = ("degraded", "restored", "target")


class RestorationValidation(Callback):
    """Writes validation.csv and pictures/images_….png; tells the checkpoints the PSNR.

    Args:
        settings: Of the run.
        batch_size: Images per iteration over all processes.
        reporting: Told how long it took; its trackers get figures and pictures.
        checkpoints: Told the PSNR.
    """

    def __init__(
        self, settings: RunSettings, batch_size: int, reporting: Reporting, checkpoints: RunCheckpoints
    ) -> None:
        self.settings = settings
        self.batch_size = batch_size
        self.reporting = reporting
        self.checkpoints = checkpoints
        self._evaluator: Evaluator | None = None
        self._log: CsvLog | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Degrades the validation faces once and measures the start."""
        if not trainer.is_global_zero:
            return
        module: Any = pl_module
        data: Any = trainer
        faces = data.datamodule.usable_validation_faces
        pairs = FacePairs(faces, module.architecture.resolution, module.degradation, SEED)
        metrics = choose_metrics(("psnr", "ssim", "lpips"), module.device)
        self._evaluator = Evaluator(replace(pairs, kept=tuple(pairs)), metrics)
        for name, reason in metrics.unavailable.items():
            print(f"{name.upper()} is off: {reason}", flush=True)
        self._log = CsvLog(self.settings.folder / "validation.csv", module.progress.images_seen)
        if module.progress.images_seen == 0:
            self._validate(module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validates if a multiple of `validate_every_images` was passed."""
        module: Any = pl_module
        if is_passed(module.progress.images_seen, self.batch_size, self.settings.validate_every_images):
            start = time.perf_counter()
            if trainer.is_global_zero:
                self._validate(module)
            self.reporting.exclude_pause(time.perf_counter() - start)

    def _validate(self, module: Any) -> None:
        assert self._evaluator is not None and self._log is not None  # set by on_train_start
        images_seen = module.progress.images_seen
        evaluation = self._evaluator.evaluate(
            lambda x: module.restore(module.ema, x.to(module.device)), num_extremes=0, num_first=NUM_PICTURED
        )
        values = {f"degraded/{name}": value.mean for name, value in evaluation.degraded.items()}
        values |= {f"validation/{name}": value.mean for name, value in evaluation.restored.items()}
        self.checkpoints.offer_best(evaluation.restored["psnr"].mean, images_seen)
        self._log.append(images_seen, values)
        faces = evaluation.first
        picture = comparison_rows([torch.stack([getattr(face, state) for face in faces]) for state in STATES], STATES)
        self.reporting.tracking.log_validation(values, "pictures", picture, images_seen, faces)
        write_png(self.settings.folder / "pictures" / f"images_{images_seen:012}.png", picture)
        line = "  ".join(
            f"{name} {value.mean:.4g} (degraded {evaluation.degraded[name].mean:.4g})"
            for name, value in evaluation.restored.items()
        )
        print(f"{images_seen:>11,} images: validation of {len(evaluation.rows)} faces  {line}", flush=True)
