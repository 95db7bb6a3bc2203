"""Restoration of ready images without gradients."""

from functools import partial

import torch
from torch import Tensor, nn

from export import latency
from models import GPEN
from scripts.benchmarking import textbook as slow
from scripts.benchmarking.contenders import Part
from scripts.benchmarking.convolution_floor import record, replay
from scripts.benchmarking.iterations import Precision, Size, images


def restore(network: nn.Module, degraded: Tensor, precision: Precision) -> Tensor:
    """One forward pass, [N, 3, R, R]."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        restored: Tensor = network(degraded)
        return restored


def ours(size: Size, precision: Precision) -> list[Part]:
    """GPEN."""
    network = GPEN(size.architecture).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return [Part(partial(restore, network, images(size), precision))]


def floor(size: Size, precision: Precision) -> list[Part]:
    """Its dense convolutions."""
    (part,) = ours(size, precision)
    return [Part(replay(record(part.run)))]


def exported(size: Size, form: latency.Form, num_threads: int) -> list[Part]:
    """A form of GPEN that can be deployed, on one image."""
    return [Part(latency.runner(GPEN(size.architecture).requires_grad_(False), form, num_threads))]


def textbook(size: Size) -> list[Part]:
    """GPEN as public code computes it."""
    network = GPEN(size.architecture).requires_grad_(False)
    parameters, degraded = dict(network.named_parameters()), images(size)
    return [Part(partial(slow.gpen, degraded, parameters, size.architecture.noise_mode))]
