"""The Inception network that the Fréchet Inception distance is defined by, as torch-fidelity ports it."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from torch import nn
from torchmetrics.image.fid import NoTrainInceptionV3

from losses.weights import WeightsFile, find_weights, load_tensors

FID_DEFINITION = (
    "Fréchet distance of 2048-D Inception features (torch-fidelity's port of the 2015 TensorFlow network) of all "
    "images and all targets, resized to 299 pixels with antialiasing; one value per set, biased upwards for few faces"
)
_NAME = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_WEIGHTS = WeightsFile(
    name=_NAME,
    url=f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_NAME}",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
"""The file that defines FID in torchmetrics and torch-fidelity."""


def load_inception(weights: Path | None = None) -> nn.Module:
    """Loads the Inception network that FID is defined by.

    Args:
        weights: Its weights; None searches as `losses.weights.find_weights` says.

    Returns:
        Module in evaluation mode on the CPU: uint8 [N, 3, H, W] to float32 [N, 2048].

    Raises:
        ModuleNotFoundError: If the optional package torch-fidelity is missing.
        FileNotFoundError: If the weights cannot be had.
        ValueError: If the file is not the one that defines FID.
    """
    if find_spec("torch_fidelity") is None:
        raise ModuleNotFoundError("the package torch-fidelity is not installed; pip install torch-fidelity")
    file = find_weights(INCEPTION_WEIGHTS, weights)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if not digest.startswith(str(INCEPTION_WEIGHTS.sha256)):
        raise ValueError(
            f"{file} must be {INCEPTION_WEIGHTS.name}, but its SHA-256 begins with {digest[:8]}; get it from "
            f"{INCEPTION_WEIGHTS.url}"
        )
    load_tensors(file)  # refuses anything but tensors: torch-fidelity itself unpickles whatever the file holds
    return NoTrainInceptionV3("inception-v3-compat", ["2048"], str(file))
