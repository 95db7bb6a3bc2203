"""A run of Weights & Biases: resumed under the same id, told every row once, ended with a summary of the whole run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import Error

from evaluation.protocol import FacePictures
from evaluation.reports.pictures import Picture
from system.atomic_file import write_atomically
from system.command_line import print_names
from system.wording import unwrapped
from train.reporting.tracking import read_table
from train.run.checkpoints import link_or_copy
from train.run.settings import RunSettings

BEST = {"validation/psnr": "max", "validation/ssim": "max", "validation/lpips": "min", "validation/fid": "min"}
"""Figures whose best value the summary holds beside the last one."""
FLUSH_SECONDS = 2.0
"""How often W&B writes its file: a kill loses at most the rows since then."""
FINISH_TIMEOUT_SECONDS = 120.0
"""So long an ending run waits for the network; what has not been sent by then stays in the folder for `wandb sync`.
A run that a scheduler interrupts has to end within its notice (five minutes in scripts/launch/slurm.sbatch)."""


class WandbRun:
    """Begins a run, or resumes the one that `run.folder` belongs to; `config` is what W&B shows as its configuration.

    Its axis is images seen, also as W&B's own step, so that offline segments of a run fit together. A run that was
    killed goes back to its last checkpoint and computes the same rows again; W&B, which cannot take rows back, gets
    only those that it has not got: `wandb/last_row` names the last one that was handed over whole. ConnectionError
    where W&B cannot be reached, or does not know the user.
    """

    def __init__(self, settings: RunSettings, config: Mapping[str, Any]) -> None:
        self.folder = settings.folder
        self.is_online = settings.wandb == "online"
        self._id_file = settings.folder / "wandb" / "run_id"
        # Copies that wait to be sent belong into the run's folder, not into the home of the user.
        os.environ["WANDB_DATA_DIR"] = str(self._id_file.parent.resolve())
        is_sweep = "WANDB_SWEEP_ID" in os.environ  # whose agent chooses project, name and id
        is_known = self._id_file.is_file() and not is_sweep
        try:
            self._run = wandb.init(
                dir=settings.folder,
                mode="online" if self.is_online else "offline",
                project=None if is_sweep else settings.wandb_project,
                name=None if is_sweep else settings.folder.name,
                id=self._id_file.read_text() if is_known else None,
                group=settings.wandb_group,
                tags=settings.wandb_tags,
                resume="allow",
                settings=wandb.Settings(
                    silent=not self.is_online,
                    finish_timeout=FINISH_TIMEOUT_SECONDS,
                    x_transaction_log_flush_interval=FLUSH_SECONDS,
                ),
            )
        except Error as error:
            raise ConnectionError(
                f"Weights & Biases must be within reach for --run.wandb online, got {unwrapped(error)}; "
                "log in with `wandb login`, or take --run.wandb offline and send the run later with `wandb sync`"
            ) from error
        self._sent_file = self._id_file.with_name("last_row")
        sent = int(self._sent_file.read_text()) if self._sent_file.is_file() else -1
        self._sent = max(self._run.starting_step - 1, sent)
        write_atomically(self._id_file, self._run.id)
        self._run.config.update(dict(config), allow_val_change=True)
        self._run.define_metric("images_seen", hidden=True)
        self._run.define_metric("*", step_metric="images_seen")
        for name, best in BEST.items():
            self._run.define_metric(name, step_metric="images_seen", summary=f"{best},last")
        self._fixed: dict[tuple[str, str], wandb.Image] = {}
        self._artifacts: list[wandb.Artifact] = []
        self._row: int | None = None

    def log(self, values: Mapping[str, Any], images_seen: int) -> None:
        """Adds to the row of `images_seen`, unless W&B has it: numbers, and what it shows as media."""
        if images_seen > self._sent:
            self._run.log({"images_seen": images_seen, **values}, step=images_seen)  # completes the row before
            if self._row is not None and images_seen > self._row:
                write_atomically(self._sent_file, str(self._row))
            self._row = images_seen

    def log_picture(self, name: str, picture: Picture, images_seen: int) -> None:
        """Adds a picture [H, W, 3]."""
        self.log({name: wandb.Image(picture, mode="RGB")}, images_seen)

    def log_faces(self, faces: Sequence[FacePictures], images_seen: int) -> None:
        """Adds the table `faces`: a row per face, images beside their figures; real ones have no target."""
        columns = ["face", "degraded", "restored", "target", "PSNR degraded", "PSNR restored", "SSIM restored"]
        table = wandb.Table(columns=[*columns])
        for face in faces:
            degraded, target = self._once(face, "degraded"), None if face.target is None else self._once(face, "target")
            before, after = face.row.degraded.get("psnr"), face.row.restored.get("psnr")
            ssim = face.row.restored.get("ssim")
            table.add_data(face.row.name, degraded, _image(face.restored), target, before, after, ssim)
        self.log({"faces": table}, images_seen)

    def log_checkpoint(self, path: Path, aliases: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Adds a checkpoint as a version of the run's artifact, with names besides the file's own and `latest`. The
        file may be removed before W&B has sent it."""
        artifact = wandb.Artifact(f"checkpoint-{self._run.id}", type="model", metadata=dict(metadata))
        if self.is_online:  # W&B takes a copy and removes it once it is sent
            artifact.add_file(str(path), name=path.name)
        else:
            artifact.add_file(str(self._second_name(path)), name=path.name, policy="immutable")
        self._artifacts.append(self._run.log_artifact(artifact, aliases=[*aliases, path.stem]))

    def end(self, status: str, images_seen: int) -> None:
        """Writes the summary and closes the run as complete, interrupted or failed."""
        if self._row is not None:
            self._run.log({}, step=self._row, commit=True)  # else it would come after the summary
            write_atomically(self._sent_file, str(self._row))
        rows = read_table(self.folder / "validation.csv").values()  # of the whole run, of earlier segments too
        for name, best in BEST.items():
            figures = [row[name] for row in rows if name in row]
            if figures:
                self._run.summary[name] = {best: (max if best == "max" else min)(figures), "last": figures[-1]}
        self._run.summary.update({"status": status, "images_seen": images_seen})
        if self.is_online and status == "complete":
            for artifact in self._artifacts:
                artifact.wait()
        self._run.finish(exit_code=0 if status == "complete" else 1)
        if not self.is_online:
            print_names(f"Weights & Biases: `wandb sync {self.folder / 'wandb'}` sends this run")

    def _once(self, face: FacePictures, state: str) -> wandb.Image:
        """What stays the same over the run is written once."""
        key = (face.row.name, state)
        if key not in self._fixed:
            self._fixed[key] = _image(getattr(face, state))
        return self._fixed[key]

    def _second_name(self, path: Path) -> Path:
        """The same file under a name of its own, beside the segment's records: no copy as long as both exist."""
        name = Path(self._run.dir).parent / "checkpoints" / path.name
        name.parent.mkdir(exist_ok=True)
        if not name.exists():
            link_or_copy(path, name)
        return name


def _image(face: Any) -> wandb.Image:
    """From uint8 [3, R, R]."""
    return wandb.Image(face.permute(1, 2, 0).numpy(), mode="RGB")
