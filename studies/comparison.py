"""What is compared: variants, their trained networks, where their results and records lie, and the protocol."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.measurement import MeasurementSettings
from system.atomic_file import printable


@dataclass(frozen=True)
class Member:
    """One trained network of a variant."""

    name: str
    """Such as "seed 0", or the name of its file."""
    checkpoint: Path
    """What restores: any file that `inference.restorers.load_restorer` reads."""
    evaluations: Mapping[str, Path]
    """Short name of the degradation to the folder of its results."""
    runs: Mapping[str, Path]
    """Stage, such as "prior" and "restoration", to the folder of its run; empty for a file without record."""


@dataclass(frozen=True)
class Variant:
    """One way of training, or one model."""

    name: str
    """Row of the tables, column of the pictures."""
    description: str
    """What it is, in one sentence; may be empty."""
    members: tuple[Member, ...]
    """One per seed; none where nothing could be measured."""


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows."""

    title: str
    question: str
    """What the comparison should answer; may be empty."""
    variants: tuple[Variant, ...]
    """In the order of the tables."""
    reference: str
    """Name of the variant from which differences are taken."""
    faces: Path
    """Folder or zip of clean aligned faces that no variant was trained on."""
    measurement: MeasurementSettings
    """How every network was measured on them."""
    missing: Mapping[str, str]
    """What could not be run, and why."""
    commands: str
    """Lines that repeat all of it."""
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
