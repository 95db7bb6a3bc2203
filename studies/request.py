"""What a study is asked for: the options of `scripts.run_ablation`."""

from dataclasses import dataclass
from pathlib import Path


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
