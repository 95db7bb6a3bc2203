"""The options of preparing faces: which ones are kept and which are held out."""

from dataclasses import dataclass, fields


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

    def check(self) -> None:
        """Refuses limits that mean nothing.

        Raises:
            ValueError: If a limit is negative or no number.
        """
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

    def check(self) -> None:
        """Refuses shares that are none.

        Raises:
            ValueError: If the share is not in [0, 1).
        """
        if not 0 <= self.val_share < 1:
            raise ValueError(f"--val_share must be at least 0 and below 1, got {self.val_share}")
