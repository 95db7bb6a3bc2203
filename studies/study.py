"""What a study is, a question with variants of the two stages' configs, and what can be asked of one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from evaluation.pairs import open_degradation
from studies.measurement import MeasurementSettings
from system.plain_yaml import read_yaml

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Stage:
    """What all variants share in one stage."""

    configs: list[str]
    """Config files of `python -m train fit`, the later ones overlays."""
    images: int
    """Budget: length of a run of this stage."""
    overlay: dict[str, Any] = field(default_factory=dict)
    """On the configs, for all variants."""
    seed: int | None = None
    """Of the runs of this stage, whatever the study's seeds; null takes those."""


@dataclass(frozen=True)
class Variant:
    """One answer to the question: what it changes."""

    description: str
    """In the report."""
    both: dict[str, Any] = field(default_factory=dict)
    """Overlay on both stages."""
    prior: dict[str, Any] = field(default_factory=dict)
    """Overlay on stage 1; variants that agree here and in `both` share their priors."""
    restoration: dict[str, Any] = field(default_factory=dict)
    """Overlay on stage 2."""
    restoration_configs: list[str] = field(default_factory=list)
    """More config files of stage 2, before the overlay."""
    start: Literal["prior", "nothing"] = "prior"
    """What stage 2 starts from: the prior of stage 1, or new weights."""


@dataclass(frozen=True)
class Study:
    """A file of configs/ablations.

    Raises:
        ValueError: Something does not fit together; all problems are named.
    """

    question: str
    """What is to be found out."""
    reference: str
    """Variant that the others are compared with."""
    prior: Stage
    """Stage 1."""
    restoration: Stage
    """Stage 2."""
    variants: dict[str, Variant]
    """By name."""
    measurement: MeasurementSettings = MeasurementSettings()
    """How the finished restorers are measured."""

    def __post_init__(self) -> None:
        problems = []
        if len(self.variants) < 2:
            problems.append(f"a study needs at least two variants, got {len(self.variants)}")
        if self.reference not in self.variants:
            problems.append(f"reference must be one of {', '.join(self.variants)}, got {self.reference}")
        for stage in (self.prior, self.restoration):
            if stage.images < 1:
                problems.append(f"images must be at least 1, got {stage.images}")
            if not stage.configs:
                problems.append("configs must name at least one file of configs/, got none")
        files = [*self.prior.configs, *self.restoration.configs]
        files += [name for variant in self.variants.values() for name in variant.restoration_configs]
        problems += [f"there is no config {name}" for name in dict.fromkeys(files) if not (ROOT / name).is_file()]
        for degradation in self.measurement.degradations:
            try:
                open_degradation(degradation)
            except (ValueError, OSError) as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))


def read_study(path: Path) -> Study:
    """Reads a study.

    Args:
        path: YAML file.

    Returns:
        The study, with existing config files and presets.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a study.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no study {path}; the ones that come along are in configs/ablations")
    content = read_yaml(path)
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--study", type=Study)
    try:
        study = parser.instantiate(parser.parse_object(Namespace(study=content))).study
    except (ArgumentError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no study: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(study, Study):
        raise ValueError(f"{path} is no study: it must have question, reference, prior, restoration and variants")
    return study


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
