"""LPIPS, the perceptual distance that papers report."""

import warnings
from pathlib import Path
from typing import Literal, Self

import lpips
import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights, VGG16_Weights

from losses.distances import unit_length
from losses.weights import WeightsFile, assign_tensors, find_weights, load_tensors

_URLS = {"alex": AlexNet_Weights.IMAGENET1K_V1.url, "vgg": VGG16_Weights.IMAGENET1K_V1.url}


class LpipsLoss(nn.Module):
    """Learned perceptual distance of Zhang et al. 2018 (arXiv 1801.03924), version 0.1 of the package `lpips`.

    Frozen: its parameters never require a gradient and it never leaves evaluation mode. Linear heads come with the
    package, the backbone is torchvision's ImageNet network: "alex" is the metric that papers report, "vgg" the usual
    training loss; weights None searches its file as `losses.weights.find_weights` says. Under autocast the backbone
    runs in half precision and the distances in float32, which is why the package's own forward pass is not called.
    FileNotFoundError where the backbone's weights are not to be had, ValueError where the file holds something else.
    """

    def __init__(self, network: Literal["alex", "vgg"] = "alex", weights: Path | None = None) -> None:
        super().__init__()
        if network not in _URLS:
            raise ValueError(f"the LPIPS network must be one of {', '.join(_URLS)}, got {network!r}")
        self.lpips = _build(network, find_weights(backbone_weights(network), weights))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, so that the dropout before the heads never acts."""
        return super().train(False)

    def distances(self, restored: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair of images [N, 3, H, W] in [-1, 1], at least 32 pixels wide and high: [N], float32, at
        least 0."""
        scale = self.lpips.scaling_layer
        features_target = self.lpips.net(scale(target))
        features_restored = self.lpips.net(scale(restored))
        total = torch.zeros(len(restored), device=restored.device)
        with torch.autocast(restored.device.type, enabled=False):
            for head, ours, theirs in zip(self.lpips.lins, features_restored, features_target, strict=True):
                difference = (unit_length(ours) - unit_length(theirs)).square()  # [N, C, h, w]
                total = total + head(difference).mean((1, 2, 3))
        return total

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Mean distance of a batch of such images: scalar, float32, at least 0; the target receives no gradient."""
        return self.distances(restored, target.detach()).mean()


def backbone_weights(network: Literal["alex", "vgg"]) -> WeightsFile:
    """The file with the weights of a backbone, as torchvision publishes it (its name ends in the checksum)."""
    name = _URLS[network].rsplit("/", 1)[1]
    return WeightsFile(name=name, url=_URLS[network], sha256=name.removesuffix(".pth").rsplit("-", 1)[1])


def _build(network: str, path: Path) -> lpips.LPIPS:
    """Builds the package's network around the weights; nothing is drawn from the global random state meanwhile."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # lpips uses its old arguments
        module = lpips.LPIPS(net=network, pretrained=False, pnet_rand=True, verbose=False)
    heads = load_tensors(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{network}.pth")
    for index, head in enumerate(module.lins):
        assign_tensors(head, {"model.1.weight": heads[f"lin{index}.model.1.weight"]}, Path(lpips.__file__))
    published = load_tensors(path)
    names = {name: "features." + name.split(".", 1)[1] for name in module.net.state_dict()}  # without "slice2."
    backbone = {name: published[source] for name, source in names.items() if source in published}
    assign_tensors(module.net, backbone, path)
    return module
