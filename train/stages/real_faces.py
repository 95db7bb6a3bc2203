"""Real low-quality faces without targets: what a run makes of them, for people to look at."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from data.dataset import FaceImages
from data.faces.files import FaceFiles
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.reports.pictures import Picture, comparison_rows

NUM_PICTURED = 8


class RealFaces(NamedTuple):
    """Some faces in both states."""

    names: list[str]
    """Below their folder."""
    degraded: Tensor
    """uint8 [N, 3, R, R], as they are."""
    restored: Tensor
    """uint8 [N, 3, R, R]; the degraded ones until they are restored."""

    @staticmethod
    def read(faces: FaceFiles, resolution: int) -> "RealFaces":
        """Reads the first faces by name.

        Args:
            faces: Low-quality faces of any size.
            resolution: R in pixels.

        Raises:
            ValueError: A file cannot be used.
        """
        images = FaceImages(faces, resolution)
        degraded = torch.stack([images[index] for index in range(min(len(faces), NUM_PICTURED))])
        return RealFaces(faces.names[: len(degraded)], degraded, degraded)

    def restore(self, restorer: Callable[[Tensor], Tensor]) -> "RealFaces":
        """The same faces restored.

        Args:
            restorer: float32 [N, 3, R, R] in [-1, 1] to images of the same shape.
        """
        with torch.no_grad():
            restored = restorer(uint8_to_model(self.degraded))
        return self._replace(restored=model_to_uint8(restored.cpu()))

    def picture(self) -> Picture:
        """A face a row: degraded, restored."""
        return comparison_rows([self.degraded, self.restored], ("degraded", "restored"), self.names)
