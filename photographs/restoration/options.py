"""The options of restoring photographs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Choice:
    """Which faces are restored."""

    smallest_share: float = 0.125
    """Faces with fewer pixels than this share of the model's resolution are left alone: nothing is left to restore."""
    most_lost_levels: float = 3.0
    """Faces of more than 1.25 times the model's resolution that lose more detail than this there are left alone as
    better than the model (root mean square, of 255 levels); 255 restores them all."""


@dataclass(frozen=True)
class Pasting:
    """How restored faces are put back."""

    strength: float = 1.0
    """Share of the change that restoration makes, 0 for none, 1 for all."""
    side_by_side: bool = False
    """Write before and after beside each other too, into side_by_side/ of the output."""
    background: Path | None = None
    """Folder of the photographs enlarged by another program, under the same names (or one file); faces are put into
    these."""
