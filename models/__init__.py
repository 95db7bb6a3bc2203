"""Networks: tensors in, tensors out; and the files they are stored in."""

from models.architecture import Architecture, NoiseMode
from models.discriminator import Discriminator, Judgement
from models.files.checkpoints import (
    StoredNetworks,
    build_generator,
    load_discriminator,
    load_generator,
    load_prior,
    read_checkpoint,
)
from models.files.release_file import save_release
from models.gpen import GPEN
from models.prior import Prior

__all__ = [
    "GPEN",
    "Architecture",
    "Discriminator",
    "Judgement",
    "NoiseMode",
    "Prior",
    "StoredNetworks",
    "build_generator",
    "load_discriminator",
    "load_generator",
    "load_prior",
    "read_checkpoint",
    "save_release",
]
