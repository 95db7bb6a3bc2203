"""ArcFace's IR-SE50 backbone, with the tensor names of the public `model_ir_se50.pth`."""

from torch import Tensor, nn
from torch.nn.functional import normalize

from losses.pixel import at_least_float32


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
