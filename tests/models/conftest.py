"""Small networks whose every parameter matters, and float64 throughout."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models import Architecture, NoiseMode

Awaken = Callable[[nn.Module], nn.Module]


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that insist on float32 insist on float64, so that comparisons can be far stricter."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


@pytest.fixture(scope="session")
def awaken() -> Awaken:
    """Makes biases and noise strengths, which start at 0, random, so that no term of a network is hidden."""

    @torch.no_grad()
    def change(network: nn.Module) -> nn.Module:
        for name, parameter in network.named_parameters():
            if name.endswith("noise_strength"):
                parameter.copy_(0.3 + 0.3 * torch.rand_like(parameter))
            elif name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * (10 if "mapping" in name else 0.2))
        return network

    return change


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Architecture]:
    """Gives the smallest architecture of a noise mode and resolution."""

    def make(noise_mode: NoiseMode = "concat", resolution: int = 32) -> Architecture:
        return Architecture(resolution, 1, 0.03125, noise_mode, style_dim=16, num_mapping_layers=2)

    return make
