"""Validation of stage 2: metrics of the averaged generator on a fixed degraded set, pictures, real faces beside."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from data.dataset import FaceImages
from data.faces.files import FaceFiles
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.choice import choose_metrics
from evaluation.protocol import Evaluator, FacePictures, FaceRow
from evaluation.reports.pictures import Picture, comparison_rows, write_png
from system.live_progress import live_progress
from system.wording import counted
from train.reporting.console import Reporting
from train.reporting.tracking import CsvLog
from train.run.settings import last_kept_row

if TYPE_CHECKING:
    from train.stages.restoration import RestorationTraining


SEED = 0
"""Of the degradation of validation faces: the same for every run, so that runs can be compared."""
NUM_PICTURED, NUM_REAL_PICTURED = 6, 8
"""Validation faces and real low-quality faces in the pictures."""
STATES = ("degraded", "restored", "target")


class RealFaces(NamedTuple):
    """Some faces in both states."""

    names: list[str]
    """Below their folder."""
    degraded: Tensor
    """uint8 [N, 3, R, R], as they are."""
    restored: Tensor
    """uint8 [N, 3, R, R]; the degraded ones until they are restored."""

    @staticmethod
    def read(faces: FaceFiles, resolution: int) -> "RealFaces":
        """Reads the first faces by name, of any size, at R pixels; ValueError where a file cannot be used."""
        images = FaceImages(faces, resolution)
        degraded = torch.stack([images[index] for index in range(min(len(faces), NUM_REAL_PICTURED))])
        return RealFaces(faces.names[: len(degraded)], degraded, degraded)

    def restore(self, restorer: Callable[[Tensor], Tensor]) -> "RealFaces":
        """The same faces restored by what maps float32 [N, 3, R, R] in [-1, 1] to the same shape."""
        with torch.no_grad():
            restored = restorer(uint8_to_model(self.degraded))
        return self._replace(restored=model_to_uint8(restored.cpu()))

    def picture(self) -> Picture:
        """A face a row: degraded, restored."""
        return comparison_rows([self.degraded, self.restored], ("degraded", "restored"), self.names)


class RestorationValidation(Callback):
    """Writes validation.csv and pictures/images_….png; tells the checkpoints the PSNR."""

    def __init__(self, training: "RestorationTraining", reporting: Reporting) -> None:
        self.training = training
        self.settings = reporting.settings
        self.reporting = reporting
        self._evaluator: Evaluator | None = None
        self._log: CsvLog | None = None
        self._real: RealFaces | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Degrades the validation faces once and measures the start."""
        if not trainer.is_global_zero:
            return
        module = self.training
        resolution = module.architecture.resolution
        pairs = self.reporting.data.validation_pairs(resolution, module.degradation, SEED)
        real = self.reporting.data.photographs.real
        self._real = None if real is None else RealFaces.read(real, resolution)
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
        """Writes their picture and gives them as faces without figures, whose target is what was given."""
        if self._real is None:
            return []
        real = self._real.restore(self._restore)
        write_png(self.settings.folder / "pictures" / f"real_{images_seen:012}.png", real.picture())
        self.reporting.tracking.log_picture("real faces", real.picture(), images_seen)
        rows = [FaceRow(f"real: {name}", {}, {}) for name in real.names]
        faces = zip(rows, real.degraded, real.restored, strict=True)
        return [FacePictures(row, degraded, restored, None) for row, degraded, restored in faces]
