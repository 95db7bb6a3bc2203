"""Identity loss: how far two faces are apart for a face recognition network."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from losses.arcface import ArcFace
from losses.weights import WeightsFile, assign_tensors, find_weights, load_tensors

ARCFACE_WEIGHTS = WeightsFile(
    name="model_ir_se50.pth",
    url="https://drive.google.com/file/d/1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn",
    sha256=None,
)
"""Trained by InsightFace_Pytorch, linked by pixel2style2pixel; its page asks for a click, so it is fetched by hand."""


class IdentityLoss(nn.Module):
    """1 − cosine between the ArcFace vectors of restored and target face; frozen and always in evaluation mode.

    Args:
        weights: `model_ir_se50.pth`; None searches as `losses.weights.find_weights` says, without a download.

    Raises:
        FileNotFoundError: If the weights are not there.
        ValueError: If the file holds something else.

    Source:
        Richardson et al. 2021 (arXiv 2008.00951), section 3.2, whose crop and network the released GPEN script uses.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        path = find_weights(ARCFACE_WEIGHTS, weights)
        with torch.device("meta"):  # nothing is drawn from the global random state
            self.arcface = ArcFace()
        assign_tensors(self.arcface, load_tensors(path), path)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, so that batch statistics and dropout never act."""
        return super().train(False)

    def embed(self, image: Tensor) -> Tensor:
        """Identity vectors.

        Args:
            image: Aligned faces as in FFHQ, [N, 3, R, R], [-1, 1].

        Returns:
            [N, 512], float32, of length 1.
        """
        return self.arcface(crop_face(image))

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Mean of 1 − cosine over a batch.

        Args:
            restored: Aligned faces as in FFHQ, [N, 3, R, R], [-1, 1].
            target: The same; receives no gradient.

        Returns:
            Scalar, float32, [0, 2].
        """
        with torch.no_grad():
            identity_target = self.embed(target)
        return (1 - (self.embed(restored) * identity_target).sum(1)).mean()


def crop_face(image: Tensor) -> Tensor:
    """Cuts the inner face out of an aligned image, as ArcFace saw faces in training.

    Args:
        image: Aligned faces as in FFHQ, [N, 3, R, R].

    Returns:
        [N, 3, 112, 112]: rows 35–222 and columns 32–219 of the image at 256 pixels, shrunk by averaging areas.
    """
    if image.shape[-1] > 256:
        image = interpolate(image, (256, 256), mode="area")
    elif image.shape[-1] < 256:
        image = interpolate(image, (256, 256), mode="bilinear", align_corners=False)
    return interpolate(image[:, :, 35:223, 32:220], (112, 112), mode="area")
