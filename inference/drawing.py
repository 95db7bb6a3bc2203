"""Faces drawn by a prior, each a function of seed and index."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from data.randomness import draw_noises, draw_normal
from data.ranges import model_to_uint8
from models import Prior, load_prior
from system.atomic_file import replacing
from system.live_progress import OnProgress, ignore_progress
from system.machine import ROOT

SHIPPED_PRIOR = ROOT / "weights" / "prior_64.safetensors"
BATCH_SIZE = 32
NUM_LATENTS_OF_MEAN = 4096


@torch.no_grad()
def mean_style(prior: Prior) -> Tensor:
    """Returns the mean [D] of the styles of 4,096 latents: the middle of all faces (StyleGAN2)."""
    dim, device = prior.architecture.style_dim, next(prior.parameters()).device
    return prior.mapping(draw_normal((dim,), 0, "mean style", list(range(NUM_LATENTS_OF_MEAN)), device)).mean(dim=0)


@torch.no_grad()
def sample(
    prior: Prior,
    seed: int,
    indices: range,
    purpose: str = "samples",
    truncation: float = 1.0,
    mean: Tensor | None = None,
) -> Tensor:
    """Draws faces from latents that depend on (seed, purpose, index) alone.

    Args:
        prior: In evaluation mode.
        indices: One per face.
        truncation: Factor ψ on the distance of each style from the mean style, in [0, 1], else ValueError: fewer odd
            faces, and faces more alike (StyleGAN, arXiv 1812.04948, appendix B).
        mean: What `mean_style` returns, for those who draw several times; None computes it where it is needed.

    Returns:
        [len(indices), 3, R, R], about [-1, 1], float32, on the device of the prior.
    """
    if not 0 <= truncation <= 1:
        raise ValueError(f"truncation must be from 0 (the mean face) to 1 (all faces), got {truncation:g}")
    device = next(prior.parameters()).device
    dim, layers = prior.architecture.style_dim, prior.architecture.num_styles
    if truncation < 1 and mean is None:
        mean = mean_style(prior)
    drawn = []
    for first in range(0, len(indices), BATCH_SIZE):
        some = list(indices[first : first + BATCH_SIZE])
        styles = prior.mapping(draw_normal((dim,), seed, purpose, some, device))
        styles = mean + truncation * (styles - mean) if mean is not None else styles
        noises = draw_noises(prior.synthesis.noise_shapes(), seed, f"{purpose} noise", some, device)
        drawn.append(prior.synthesis(styles[:, None].expand(-1, layers, -1), noises))
    return torch.cat(drawn)


def render_faces(
    checkpoint: Path,
    folder: Path,
    number: int,
    seed: int,
    on_progress: OnProgress = ignore_progress,
    truncation: float = 1.0,
) -> None:
    """Draws faces that are not in the folder yet, as 000000.png, 000001.png, …; the i-th depends on (seed, i) alone.

    Args:
        checkpoint: Prior, or GPEN whose decoder draws.
        number: How many in all.
        on_progress: Called with the number of faces in the folder after each batch.
        truncation: As `sample` takes it.
    """
    missing = [index for index in range(number) if not (folder / f"{index:06}.png").is_file()]
    if not missing:
        return
    prior = load_prior(checkpoint)
    mean = mean_style(prior) if truncation < 1 else None
    for first in range(missing[0], number, BATCH_SIZE):
        indices = range(first, min(first + BATCH_SIZE, number))
        drawn = sample(prior, seed, indices, "rendered faces", truncation=truncation, mean=mean)
        images = model_to_uint8(drawn).permute(0, 2, 3, 1).numpy()
        for index, image in zip(indices, images, strict=True):
            if index not in missing:
                continue
            with replacing(folder / f"{index:06}.png") as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
        on_progress(indices.stop)
