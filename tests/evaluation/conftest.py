"""Faces drawn from numbers, so that no photograph is needed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.faces import FaceFiles, open_faces


@pytest.fixture
def drawn_faces(tmp_path: Path) -> FaceFiles:
    """Seven smooth coloured 32-pixel images, two of them in a sub folder."""
    folder = tmp_path / "drawn"
    (folder / "b").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(7):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(folder / ("b" if index > 4 else ".") / f"{index}.png")
    return open_faces(folder)
