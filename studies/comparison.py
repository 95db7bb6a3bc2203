"""What is compared: variants, their trained networks, where their results and records lie, and the protocol."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.files.run_folder import find_checkpoint, read_config, run_of
from studies.request import MeasurementSettings
from system.paths import way_out
from system.wording import printable


@dataclass(frozen=True)
class Member:
    """One trained network of a variant."""

    name: str
    """Such as "seed 0", or the name of its file."""
    checkpoint: Path
    """What restores: any file that `inference.restorers.load_restorer` reads."""
    runs: Mapping[str, Path]
    """Stage, such as "prior" and "restoration", to the folder of its run, the earliest first; empty without record."""
    evaluations: Mapping[str, Path] = field(default_factory=dict)
    """Short name of the degradation to the folder of its results, once it was measured."""


@dataclass(frozen=True)
class Variant:
    """One way of training, or one model."""

    name: str
    """Row of the tables, column of the pictures."""
    description: str
    """What it is, in one sentence; may be empty."""
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows."""

    title: str
    question: str
    variants: tuple[Variant, ...]
    reference: str
    faces: Path
    """Folder or zip of clean aligned faces that no variant was trained on."""
    measurement: MeasurementSettings
    missing: Mapping[str, str]
    commands: str
    notes: str = ""
    """Budget and whatever else a reader has to know."""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        check_names(names)
        if self.reference not in names:
            raise ValueError(f"the reference must be one of {', '.join(names)}, got {self.reference}")
        if not self.measured():
            raise ValueError(f"a comparison needs at least one network that was measured, {self.title} has none")

    def measured(self) -> tuple[Variant, ...]:
        """The variants of which there is at least one network."""
        return tuple(variant for variant in self.variants if variant.members)


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError unless names can be shown and are different, as names of files as well."""
    hidden = [printable(name) for name in names if not name.isprintable()]
    if hidden:
        raise ValueError(f"names must be texts of one line that can be shown, got {', '.join(hidden)}; write NAME=PATH")
    files = [file_name(name).lower() for name in names]
    if len(set(files)) < len(files):
        raise ValueError(f"names must differ in letters or digits, got {', '.join(names)}; write NAME=PATH")


def file_name(text: str) -> str:
    """A name as part of a file's name: letters, digits, point, dash and underscore stay."""
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "_"


STAGES = {"train.stages.prior.PriorTraining": "prior", "train.stages.restoration.RestorationTraining": "restoration"}
"""What a run trained, by the class in its configuration."""


def read_variants(words: Sequence[str]) -> dict[str, list[Member]]:
    """Reads arguments `[NAME=]PATH[,PATH…]`, one per variant, such as `runs/a`, `gpen.onnx` or `concat=runs/a,runs/b`;
    a name is that of the run's folder or file if none is given. Gives name to members, one per path. FileNotFoundError
    or ValueError where there is nothing to measure at a path, or two variants have one name."""
    variants: dict[str, list[Member]] = {}
    for word in words:
        name, paths = _split(word)
        check_names([*variants, name])
        variants[name] = _distinctly_named([_open(path) for path in paths], paths)
    return variants


def _split(word: str) -> tuple[str, list[Path]]:
    """Name and paths; what exists as it stands is one path."""
    name, equals, rest = word.partition("=")
    if Path(word).exists() or not equals:
        name, rest = "", word
    paths = [Path(rest)] if Path(rest).exists() else [Path(part) for part in rest.split(",")]
    run = run_of(paths[0])
    return name or (run.resolve().name if run else paths[0].name), paths


def _open(path: Path) -> Member:
    if not path.exists():
        raise FileNotFoundError(f"there is no run, checkpoint or exported model at {path}{way_out(path)}")
    run = run_of(path)
    if path.is_dir():
        if run is None:
            raise FileNotFoundError(f"{path} holds no run (run.json); give a run's folder, or a file of an export")
        path = find_checkpoint(path)
    name = path.name if run is None else f"seed {read_config(run)['run'].get('seed', 0)}"
    return Member(name, path, {} if run is None else _stages(run))


def _stages(run: Path) -> dict[str, Path]:
    """The run and, where its start lies in one that is still there, the runs before it."""
    stages: dict[str, Path] = {}
    current: Path | None = run
    while current is not None and current not in stages.values():
        config = read_config(current)
        model = config.get("model", {})
        stage = STAGES.get(model.get("class_path", ""), "training")
        stages = {f"earlier {stage}" if stage in stages else stage: current} | stages
        start = model.get("init_args", {}).get("start")
        current = run_of(Path(start)) if start and Path(start).is_file() else None
    return stages


def _distinctly_named(members: list[Member], paths: list[Path]) -> list[Member]:
    """Members of one name (the same seed twice) get the names of their paths."""
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        names = [path.name if path.is_dir() else "/".join(path.parts[-3:]) for path in paths]
    check_names(names)
    return [replace(member, name=name) for name, member in zip(names, members, strict=True)]
