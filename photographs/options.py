"""The options of the commands on photographs, which their help shows without loading what does the work."""

from dataclasses import dataclass, fields
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
    """Folder or archive of the photographs enlarged by another program, under the same names (or one picture for one
    photograph); faces are put into these."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"--strength must be from 0 to 1, got {self.strength:g}")


@dataclass(frozen=True)
class Selection:
    """Which faces are kept."""

    smallest_share: float = 1.0
    """Faces with fewer pixels in the photograph than this share of the resolution are rejected: they would be
    enlarged."""
    most_turn: float = 0.7
    """Faces turned further to a side are rejected; 0 is from the front, about 1 in profile."""
    most_padding: float = 0.25
    """Faces of whose square a larger share lies outside of the photograph are rejected."""
    least_sharpness: float = 50.0
    """Faces whose variance of the Laplacian is lower are rejected as blurred (in squared levels of 255, in the middle
    of the aligned face)."""
    least_difference: int = 6
    """Faces whose perceptual hash differs from that of a face kept before in fewer of 64 bits are rejected as
    near-duplicates; 0 keeps them all."""
    reject_grey: bool = False
    """Reject faces without colour."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"--{field.name} must be 0 or more, got {value}")


@dataclass(frozen=True)
class Split:
    """Which faces are held out."""

    val_share: float = 0.05
    """Share of the people that is held out in val/, rounded, at least one where there are two. The photographs of one
    folder are one person where there are several folders, else every photograph is one."""

    def __post_init__(self) -> None:
        if not 0 <= self.val_share < 1:
            raise ValueError(f"--val_share must be at least 0 and below 1, got {self.val_share}")
