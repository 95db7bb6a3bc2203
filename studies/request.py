"""What studies, comparisons and releases are asked for: options, for help without PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.degradation.presets import PRESETS_FOLDER
from data.faces.files import FaceFiles, Pictures
from evaluation.metrics.forms import MetricName

if TYPE_CHECKING:
    from evaluation.pairs import FacePairs


@dataclass(frozen=True)
class MeasurementSettings:
    """How networks are measured, whatever the faces."""

    degradations: tuple[str, ...] = ("released",)
    """Presets, YAML files, or folders of stored degraded versions of the faces."""
    seed: int = 0
    """Seed of the degradation."""
    metrics: tuple[MetricName, ...] = ("psnr", "ssim", "lpips", "identity")
    """As for scripts.evaluate; PSNR is always among them, what cannot be had here is named in the report."""
    max_faces: int | None = None
    """Only the first faces by name; null for all."""
    names: tuple[str, ...] = ()
    """How names of stored degraded versions differ from those of the faces, such as '{}x4', or of both, such as
    '{}_lq' '{}_hq'."""
    pictures: Pictures = Pictures()

    def pairs_of(self, faces: FaceFiles, resolution: int, degradation: str) -> "FacePairs":
        """The faces under one of the degradations; FileNotFoundError or ValueError where there is none such or it is
        wrong."""
        from evaluation.pairs import FacePairs, open_degradation

        opened = open_degradation(degradation, self.pictures)
        if isinstance(opened, str):
            is_name = (PRESETS_FOLDER / f"{degradation}.yaml").is_file()
            preset = degradation if is_name else str(Path(degradation).expanduser().resolve())
            return FacePairs(faces, resolution, preset, self.seed, max_faces=self.max_faces)
        return FacePairs(faces, resolution, opened, max_faces=self.max_faces, names=self.names)

    def preset_names(self) -> dict[str, str]:
        """The degradations by the short names of tables and folders; ValueError where there is none, or two share a
        name."""
        names = {Path(degradation).stem: degradation for degradation in self.degradations}
        if not names or len(names) < len(self.degradations):
            raise ValueError(
                f"degradations must be at least one, with different names, got {', '.join(self.degradations) or 'none'}"
            )
        return names


@dataclass(frozen=True)
class StudyFaces:
    """Faces."""

    faces: Path
    """Aligned faces for training."""
    validation_faces: Path
    """Aligned faces of other people, for the report."""
    degraded: Path | None = None
    """Degraded versions of --faces for stage 2, under the same names; null degrades them by the variant's preset."""
    validation_degraded: Path | None = None
    """Degraded versions of --validation_faces: validation and report measure on them as well."""
    names: tuple[str, ...] = ()
    """How names of degraded versions differ from those of faces, such as '{}x4'."""
    pictures: Pictures = Pictures()


@dataclass(frozen=True)
class Runs:
    """Runs."""

    seeds: int = 1
    """Runs of each variant, with the seeds 0, 1, …"""
    variants: tuple[str, ...] = ()
    """Only these; empty for all."""
    output: Path = Path("runs/ablations")
    """Folder of all studies."""
    at_once: int = 1
    """Runs side by side, each with its share of cores or GPUs."""
    plan: bool = False
    """Print the runs and their commands, and end."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.at_once) < 1:
            raise ValueError(f"--seeds and --at_once must be at least 1, got {self.seeds} and {self.at_once}")


@dataclass(frozen=True)
class Budget:
    """Instead of what the study says."""

    prior: Path | None = None
    """Finished prior, instead of training those that no variant changes."""
    prior_config: tuple[str, ...] = ()
    """Configs of stage 1."""
    restoration_config: tuple[str, ...] = ()
    """Configs of stage 2."""
    prior_images: int | None = None
    """Images of stage 1 for each run."""
    restoration_images: int | None = None
    """Images of stage 2 for each run."""


@dataclass(frozen=True)
class ReportOptions:
    """Report."""

    report_only: bool = False
    """Train nothing: report on what is finished."""
    without_photographs: bool = False
    """Leave degraded and target faces out of the report."""


@dataclass(frozen=True)
class Request:
    """A study and how it is to be carried out."""

    study: Path
    """YAML file."""
    faces: StudyFaces
    runs: Runs
    budget: Budget
    report: ReportOptions
    options: tuple[str, ...] = ()
    """More arguments of `python -m train fit`."""


Numbers = Literal["float16", "int8"]


@dataclass(frozen=True)
class Release:
    """What is published, and where."""

    restoration_run: Path
    """Folder of a stage 2 run, or one of its checkpoints."""
    faces: Path
    """Folder of held-out faces for the figures."""
    data: str
    """What the training faces were and their terms, one sentence."""
    prior: Path | None = None
    """Folder of a stage 1 run, or a release file that stays as it is; null publishes the restorer alone beside what is
    in the folder, with a page of its own."""
    numbers: Numbers = "float16"
    """How the restorer's weights are stored; int8 takes half of float16, with a scale for every output channel."""
    prior_numbers: Numbers = "float16"
    """How those of the prior and its discriminator are."""
    interpolated_with: tuple[Path, ...] = ()
    """Runs, release files or other checkpoints of restorers that the run started from, or that started where it did:
    the release's weights lie between all of them (network interpolation, arXiv 1809.00219, section 3.4; model soups,
    arXiv 2203.05482)."""
    interpolated_share: tuple[float, ...] = ()
    """Of each of them in the weights, the rest for the run; empty for as much as the run has."""
    degradations: tuple[str, ...] = ("small", "released", "varied")
    """Presets to measure under."""
    output: Path = Path("weights")
    """Folder of the release."""
    pictures: Pictures = Pictures()

    def __post_init__(self) -> None:
        shares, others = self.interpolated_share, self.interpolated_with
        if shares and len(shares) != len(others):
            raise ValueError(
                "--interpolated_share must give a number for each of --interpolated_with, "
                f"got {len(shares)} and {len(others)}"
            )
        if any(share <= 0 for share in shares) or sum(shares) >= 1:
            given = ", ".join(f"{share:g}" for share in shares)
            raise ValueError(f"--interpolated_share must be above 0 and below 1 together, got {given}")

    @property
    def shares(self) -> tuple[float, ...]:
        """How much of each of `interpolated_with` is in the weights."""
        others = self.interpolated_with
        return self.interpolated_share or tuple(1 / (len(others) + 1) for _ in others)
