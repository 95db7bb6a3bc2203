"""Append-only tables of a run that fit the checkpoint it continues from, and what trackers get beside them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, LightningModule, Trainer

from evaluation.protocol import FacePictures
from evaluation.reports.pictures import Picture
from evaluation.reports.tables import read_rows
from models.files.run_folder import checkpoint_path, read_record
from system.atomic_file import replacing
from train.run.checkpoints import RunCheckpoints
from train.run.progress import Progress
from train.run.settings import RunSettings, has_all_images

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from train.reporting.wandb_run import WandbRun


class CsvLog:
    """A CSV file with the column `images_seen` first; columns may join later. Rows beyond the progress of the run at
    its start, of a run that got further before it was killed, are removed. Raises ValueError where the file is damaged.
    """

    def __init__(self, path: Path, images_seen: int) -> None:
        self.path = path
        rows = read_rows(path)
        self._columns = ["images_seen", *next(iter(rows.values()), {})]
        self._rewrite({images: cells for images, cells in rows.items() if images <= images_seen})

    def append(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Adds a row."""
        new = [name for name in values if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite(read_rows(self.path))
        with self.path.open("a", newline="") as file:
            row = {"images_seen": images_seen, **{name: f"{value:.6g}" for name, value in values.items()}}
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self, rows: Mapping[int, Mapping[str, str]]) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows({"images_seen": images_seen, **cells} for images_seen, cells in rows.items())


def read_table(path: Path) -> dict[int, dict[str, float]]:
    """The values of a table by images seen, without empty cells; see `evaluation.reports.tables.read_rows`."""
    rows = read_rows(path)
    return {images: {name: float(cell) for name, cell in cells.items() if cell} for images, cells in rows.items()}


class Tracking(Callback):
    """Hands on what is logged, in the first process of a run; comes behind `RunCheckpoints`."""

    def __init__(
        self, settings: RunSettings, config: Mapping[str, Any], progress: Progress, checkpoints: RunCheckpoints
    ) -> None:
        self.settings = settings
        self.config = config
        self.progress = progress
        self.checkpoints = checkpoints
        self._wandb: WandbRun | None = None
        self._tensorboard: SummaryWriter | None = None
        self._told_checkpoint = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the trackers."""
        folder = self.settings.folder
        if not trainer.is_global_zero:
            return
        if self.settings.wandb != "off":
            from train.reporting.wandb_run import WandbRun

            self._wandb = WandbRun(self.settings, {**self.config, **_description(folder, pl_module)})
        if self.settings.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed run wrote beyond its checkpoint is dropped.
            purge_step = self.progress.images_seen + 1
            self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)

    def log_row(self, values: Mapping[str, float], images_seen: int) -> None:
        """A row of train.csv, or figures that join it."""
        if self._wandb is not None:
            self._wandb.log(values, images_seen)
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, images_seen)

    def log_validation(
        self,
        values: Mapping[str, float],
        name: str,
        picture: Picture,
        images_seen: int,
        faces: Sequence[FacePictures] = (),
    ) -> None:
        """A validation: its figures, its picture and the same faces each time."""
        self.log_row(values, images_seen)
        self.log_picture(name, picture, images_seen)
        if self._wandb is not None and faces:
            self._wandb.log_faces(faces, images_seen)

    def log_picture(self, name: str, picture: Picture, images_seen: int) -> None:
        """A picture that joins a validation."""
        if self._wandb is not None:
            self._wandb.log_picture(name, picture, images_seen)
        if self._tensorboard is not None:
            self._tensorboard.add_image(name, picture, images_seen, dataformats="HWC")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Hands on a checkpoint that was just written, if all are wanted."""
        if self.settings.wandb_checkpoints == "all" and self.checkpoints.written > self._told_checkpoint:
            self._log_checkpoints()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hands on the best and the last checkpoint of a complete run."""
        wanted = self.settings.wandb_checkpoints
        if wanted == "all" or (wanted == "final" and self._is_complete()):
            self._log_checkpoints()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ends the trackers of a run that is complete or was interrupted."""
        self._end("complete" if self._is_complete() else "interrupted")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the trackers of a run that broke off."""
        self._end("interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")

    def _is_complete(self) -> bool:
        batch_size: int = self.config["data"]["batch_size"]
        return has_all_images(self.progress.images_seen, batch_size, self.settings.total_images)

    def _log_checkpoints(self) -> None:
        """The best one, unless W&B has it, and the last one, which thus becomes the latest."""
        if self._wandb is None:
            return
        architecture = self.config["model"]["init_args"]["architecture"]
        last = self.checkpoints.written
        best = self.checkpoints.best[1] if self.checkpoints.best is not None else -1
        for images_seen in sorted({best, last}):
            path = checkpoint_path(self.checkpoints.folder, images_seen)
            if images_seen > self._told_checkpoint and path.is_file():
                aliases = ["best"] if images_seen == best else []
                metadata = {"architecture": architecture, "images_seen": images_seen}
                self._wandb.log_checkpoint(path, aliases, metadata | self._last_validation(images_seen))
        self._told_checkpoint = last

    def _last_validation(self, images_seen: int) -> dict[str, float]:
        """The figures that were known when the run had seen so many images."""
        rows = read_table(self.settings.folder / "validation.csv")
        last = max((images for images in rows if images <= images_seen), default=None)
        return {} if last is None else {"validated_images_seen": last, **rows[last]}

    def _end(self, status: str) -> None:
        if self._wandb is not None:
            self._wandb.end(status, self.progress.images_seen)
        if self._tensorboard is not None:
            self._tensorboard.close()
        self._wandb = self._tensorboard = None


def _description(folder: Path, module: LightningModule) -> dict[str, Any]:
    """Tells what the configuration does not say: photographs, code, machine, sizes of the networks."""
    record = read_record(folder)
    networks = ("generator", "discriminator")
    sizes = {name: sum(p.numel() for p in module.get_submodule(name).parameters()) for name in networks}
    return {"photographs": record["data"], "session": record["sessions"][-1], "parameters": sizes}
