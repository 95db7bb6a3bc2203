"""The options of every command that restores faces."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from system.machine import ROOT

if TYPE_CHECKING:
    from inference.restorers import Restorer


@dataclass(frozen=True)
class RestorerOptions:
    """The restorer."""

    checkpoint: Path = ROOT / "weights" / "gpen_64.safetensors"
    """Release file, Lightning checkpoint, public GPEN checkpoint, TorchScript or ONNX file; its resolution is used."""
    batch_size: int = 16
    """Faces restored at once."""
    device: str | None = None
    """Such as cpu or cuda:0; null for a GPU if there is one, for ONNX the CPU."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {self.batch_size}")

    def open(self) -> "Restorer":
        """Loads the restorer; FileNotFoundError or ValueError where there is no such file, it is something else, or the
        device cannot be used."""
        from inference.restorers import default_device, load_restorer

        return load_restorer(self.checkpoint, self.device or default_device(self.checkpoint))
