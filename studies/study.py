"""What a study is: a question, variants of the two stages' configs, a budget, and how the results are measured."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from evaluation.pairs import open_degradation
from studies.request import MeasurementSettings
from system.machine import ROOT
from system.paths import way_out
from system.plain_yaml import read_yaml
from system.wording import unwrapped


@dataclass(frozen=True)
class StudyStage:
    """What all variants share in one stage."""

    configs: list[str]
    """Config files of `python -m train fit`, the later ones overlays."""
    images: int
    """Budget: length of a run of this stage."""
    overlay: dict[str, Any] = field(default_factory=dict)
    """Options laid over the configs, for all variants."""
    seed: int | None = None
    """Seed of the runs of this stage, whatever the study's seeds; null takes those."""


@dataclass(frozen=True)
class StudyVariant:
    """One answer to the question: what it changes."""

    description: str
    """What the report says of it."""
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
    restoration_share: float = 1.0
    """Share of the images of stage 2, for variants that are to take equal time, not equal images."""


@dataclass(frozen=True)
class Study:
    """A file of configs/ablations. Raises ValueError where something does not fit together; all problems are named."""

    question: str
    """What is to be found out."""
    reference: str
    """Variant that the others are compared with."""
    prior: StudyStage
    """Stage 1."""
    restoration: StudyStage
    """Stage 2."""
    variants: dict[str, StudyVariant]
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
        problems += [
            f"restoration_share must be above 0 and finite, got {variant.restoration_share:g} for {name}"
            for name, variant in self.variants.items()
            if not 0 < variant.restoration_share < float("inf")
        ]
        for degradation in self.measurement.degradations:
            try:
                open_degradation(degradation)
            except (ValueError, OSError) as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))


def read_study(path: Path) -> Study:
    """Reads a study from a YAML file, with existing config files and presets; FileNotFoundError or ValueError where
    there is no such file or it is no study."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no study {path}{way_out(path)} (some are in configs/ablations)")
    content = read_yaml(path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--study", type=Study)
    try:
        study = parser.instantiate(parser.parse_object(Namespace(study=content))).study
    except (ArgumentError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no study: {unwrapped(error)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(study, Study):
        raise ValueError(f"{path} is no study: it must have question, reference, prior, restoration and variants")
    return study
