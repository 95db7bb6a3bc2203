"""What a run needs to know besides its model: folder, length, rhythm, photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from system.wording import counted

MEASURED, WHOLE = "measured", "whole"
"""Values of `RunSettings.convolutions`."""


@dataclass(frozen=True)
class RunSettings:
    """Folder, length and rhythm of a run; all progress is counted in images over all processes."""

    folder: Path = Path("runs/unnamed")
    """Everything the run writes. The same command with the same folder continues the run."""
    overwrite: bool = False
    """Replace a run in the folder that is complete or has other settings; one that can be continued is continued. The
    old one is removed when the new one has written its first checkpoint."""
    accept_other_faces: bool = False
    """Continue with other photographs than the run has trained on up to now, or without knowing which these were."""
    seed: int = 0
    """Root of all randomness."""
    total_images: int = 1_000_000
    """Where the run ends."""
    num_parts: int = 1
    """Parts in which each process computes its share of a batch, one after the other (gradient accumulation): less
    memory, the same result. Costs one more pass through the generator per iteration."""
    log_every_images: int = 2_000
    """Rhythm of rows in train.csv, of the line on the console and of what trackers get; the last image has
    a row too."""
    validate_every_images: int = 50_000
    """Rhythm of pictures and of the figures in validation.csv; the last image has them too."""
    checkpoint_every_images: int = 50_000
    """Rhythm of checkpoints; one is also written at the end and when the run is interrupted."""
    keep_checkpoints: int = 3
    """How many of the latest checkpoints stay; the best by validation stays as well."""
    wandb: Literal["off", "offline", "online"] = "offline"
    """Weights & Biases; offline runs are sent later with `wandb sync`."""
    wandb_project: str = "gpen"
    """Project of Weights & Biases; entity and key come from its environment variables."""
    wandb_group: str | None = None
    """Study that the run belongs to: W&B shows the runs of a group together."""
    wandb_tags: tuple[str, ...] = ()
    """Words that W&B filters runs by, such as `[variant,seed_0]`."""
    wandb_checkpoints: Literal["none", "final", "all"] = "final"
    """Checkpoints that W&B gets as versions of an artifact: none, the best and the last of a complete run (final), or
    each as it is written (all)."""
    tensorboard: bool = False
    """Write TensorBoard events as well."""
    tf32: bool = False
    """On GPUs, let float32 products (R1 and path length under bf16-mixed, everything under 32-true) use TF32."""
    max_minutes: float | None = None
    """End the run in order after so many minutes, with a checkpoint and exit code 75 while it is incomplete; the same
    command goes on. null: no limit."""
    convolutions: str = MEASURED
    """On a CPU in float32: `measured` takes for each gradient of a convolution the fastest of a few exact formulations,
    measured when it first occurs and kept in run.json; the run.json of another run takes that run's; `whole` always
    takes PyTorch's. They differ in rounding."""
    max_skipped_updates: int = 20
    """End the run when so many updates of a network in a row were skipped because loss or gradient were not finite,
    or when losses or scores stay above a million for so many iterations; looked at whenever a row is logged."""

    def __post_init__(self) -> None:
        numbers = {name: value for name, value in vars(self).items() if type(value) is int and name != "seed"}
        problems = [f"{name} must be at least 1, got {value}" for name, value in numbers.items() if value < 1]
        if self.max_minutes is not None and not 0 < self.max_minutes < float("inf"):
            problems.append(f"max_minutes must be above 0, or null for no limit, got {self.max_minutes}")
        if problems:
            raise ValueError("run: " + "; ".join(problems))


MOST_WORKERS = 256
"""More readers for one process are a slip of the keyboard, which would take the machine's memory."""


@dataclass(frozen=True)
class FaceSettings:
    """Photographs: aligned faces for training and for validation."""

    faces: Path
    """Folder (recursive), uncompressed zip or tar, LMDB or list of aligned faces for training."""
    batch_size: int = 8
    """Images per iteration over all processes together."""
    validation_faces: Path | None = None
    """The same for validation; null holds out the last `num_validation_faces` of `faces` by name."""
    num_validation_faces: int = 64
    """At most so many validation faces are used."""
    degraded: Path | None = None
    """Stage 2: degraded versions of `faces` under the same names, cropped alike; null degrades all by the preset."""
    names: tuple[str, ...] = ()
    """How names of degraded versions differ from those of faces, such as ['{}x4'], or of both, such as
    ['{}_lq','{}_hq']; suffixes may differ anyway."""
    synthetic_share: float | None = None
    """Share of the images that are degraded by the preset although there are degraded versions, 0 to 1; null: none."""
    validation_degraded: Path | None = None
    """Degraded versions of `validation_faces`; null degrades them by the preset. Held-out faces of `faces` take theirs
    from `degraded`."""
    real_faces: Path | None = None
    """Stage 2: low-quality faces without targets; the first ones are restored for a picture at each validation."""
    flip_probability: float = 0.5
    """Probability of mirroring a training face."""
    num_workers: int = 2
    """Processes that read photographs, per training process; 0 reads in the training process."""
    cache_mebibytes: int = 256
    """Memory for resized photographs, per worker."""
    background: str = "black"
    """What transparent pictures are laid over, a name or '#rrggbb'."""
    max_broken_share: float = 0.01
    """Share of the faces that may be broken files, at most 0.5: others stand in for them. 0 ends the run at the first
    one; else one is always allowed."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.num_workers <= MOST_WORKERS:
            problems.append(f"num_workers must be from 0 to {MOST_WORKERS}, got {self.num_workers}")
        if self.cache_mebibytes < 0:
            problems.append(f"cache_mebibytes must be at least 0, got {self.cache_mebibytes}")
        if self.degraded is None and self.synthetic_share is not None:
            problems.append("synthetic_share needs degraded versions to mix with, give data.degraded")
        if self.synthetic_share is not None and not 0 <= self.synthetic_share <= 1:
            problems.append(f"synthetic_share must be from 0 to 1, got {self.synthetic_share:g}")
        if self.degraded is None and self.validation_degraded is None and self.names:
            problems.append("names say how degraded versions are called, give data.degraded")
        if self.validation_degraded is not None and self.validation_faces is None:
            problems.append("validation_degraded are versions of validation_faces, give data.validation_faces")
        if problems:
            raise ValueError("data: " + "; ".join(problems))


def is_passed(images_seen: int, batch_size: int, every_images: int) -> bool:
    """Tells whether the batch that ended at `images_seen` reached or crossed a multiple of `every_images`."""
    return images_seen // every_images > (images_seen - batch_size) // every_images


def last_kept_row(images_seen: int, batch_size: int, every_images: int) -> int:
    """The image up to which rows of a table stay when a run goes on.

    A run also ends with a row where its rhythm has none; if it is made longer later, it goes on without that row, as if
    it had been as long from the beginning.
    """
    is_on_rhythm = images_seen == 0 or is_passed(images_seen, batch_size, every_images)
    return images_seen if is_on_rhythm else images_seen - 1


def has_all_images(images_seen: int, batch_size: int, total_images: int) -> bool:
    """Tells whether a run is complete: `total_images` leaves no room for another batch."""
    return images_seen + batch_size > total_images


SOAKED_BATCH = 8
"""Images of a batch of the runs of a soak."""


@dataclass(frozen=True)
class Soak:
    """Kills."""

    output: Path
    """New folder for faces and runs."""
    kills: int = 10
    """SIGKILLs for each stage."""
    images_between: int = 256
    """Images a run gets on, on average, before a kill."""
    seed: int = 0
    """Of the moments of the kills."""

    def __post_init__(self) -> None:
        if self.output.exists():
            raise ValueError(f"--output must be a new folder, got {self.output}, which exists")
        if self.kills < 1 or self.images_between < SOAKED_BATCH:
            raise ValueError(
                f"there must be a kill and {SOAKED_BATCH} images between two, got {counted(self.kills, 'kill')} and "
                f"{self.images_between} images"
            )

    @property
    def total_images(self) -> int:
        """Length of a run: room for all kills and twenty batches after them."""
        return ((self.kills + 1) * self.images_between + 20 * SOAKED_BATCH) // SOAKED_BATCH * SOAKED_BATCH

    @property
    def faces(self) -> Path:
        """Folder of the faces that all runs train on."""
        return self.output / "faces"
