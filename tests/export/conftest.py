"""Random networks whose every parameter matters, on images that real networks see."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from export.parity import ParityFaces, parity_images
from models import GPEN, Architecture, NoiseMode, save_release


def random_generator(architecture: Architecture) -> GPEN:
    """A network with random biases and noise strengths whose images lie about [-1, 1], as a trained network's do."""
    random = torch.Generator().manual_seed(1)
    generator = GPEN(architecture).eval()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            drawn = torch.randn(parameter.shape, generator=random)
            if name.endswith("noise_strength"):
                parameter.copy_(0.5 * drawn)
            elif name.endswith("modulation.bias"):
                parameter.copy_(1 + 0.2 * drawn)
            elif name.endswith("bias"):
                parameter.copy_(drawn * (10 if "mapping" in name else 0.1))
            elif "to_rgb.convolution.weight" in name:
                parameter.copy_(0.2 * drawn)
            else:
                parameter.copy_(drawn * parameter.std())
    return generator


@pytest.fixture(scope="session", name="random_generator")
def provide_random_generator() -> Callable[[Architecture], GPEN]:
    """Makes networks of any architecture."""
    return random_generator


@pytest.fixture(scope="session")
def generators() -> dict[NoiseMode, GPEN]:
    """One small network of each noise mode, 64 pixels."""
    modes: tuple[NoiseMode, ...] = ("concat", "add", "none")
    return {mode: random_generator(Architecture(64, 1, 0.0625, mode, 64, 2)) for mode in modes}


@pytest.fixture(scope="session")
def images() -> Tensor:
    """Three smooth images [3, 3, 64, 64] for tests that need no faces."""
    return parity_images(ParityFaces(num_images=3), 64)


@pytest.fixture
def checkpoint(generators: dict[NoiseMode, GPEN], tmp_path: Path) -> Path:
    """A release file in float32."""
    path = tmp_path / "trained.safetensors"
    save_release(path, generators["concat"], card={"data": "none"}, half=False)
    return path


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder with three pictures."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for index, image in enumerate(parity_images(ParityFaces(num_images=3, seed=5), 80)):
        pixels = ((image + 1) * 127.5).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder
