"""Faces drawn by a prior, each a function of seed and index."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from data.randomness import draw_noises, draw_normal
from data.ranges import model_to_uint8
from models import Prior, load_prior
from system.atomic_file import replacing

SHIPPED_PRIOR = Path(__file__).resolve().parents[1] / "weights" / "prior_64.safetensors"
BATCH_SIZE = 32


@torch.no_grad()
def sample(prior: Prior, seed: int, indices: range, purpose: str = "samples", batch_size: int = 32) -> Tensor:
    """Draws faces from latents that depend on (seed, purpose, index) alone.

    Args:
        prior: In evaluation mode.
        seed: Any.
        indices: One per face.
        purpose: As for `draw_normal`.
        batch_size: Faces drawn at once.

    Returns:
        [len(indices), 3, R, R], about [-1, 1], float32, on the device of the prior.
    """
    device = next(prior.parameters()).device
    drawn = []
    for first in range(0, len(indices), batch_size):
        some = list(indices[first : first + batch_size])
        latent = draw_normal((prior.architecture.style_dim,), seed, purpose, some, device)
        noises = draw_noises(prior.synthesis.noise_shapes(), seed, f"{purpose} noise", some, device)
        drawn.append(prior(latent, noises))
    return torch.cat(drawn)


def render_faces(
    checkpoint: Path, folder: Path, number: int, seed: int, on_progress: Callable[[int], None] | None = None
) -> None:
    """Draws faces that are not in the folder yet.

    Args:
        checkpoint: Prior, or GPEN whose decoder draws.
        folder: Gets 000000.png, 000001.png, …
        number: How many in all.
        seed: Of latents and noise; the i-th face depends on (seed, i) alone.
        on_progress: Called with the number of faces in the folder after each batch.
    """
    missing = [index for index in range(number) if not (folder / f"{index:06}.png").is_file()]
    if not missing:
        return
    prior = load_prior(checkpoint)
    for first in range(missing[0], number, BATCH_SIZE):
        indices = range(first, min(first + BATCH_SIZE, number))
        images = model_to_uint8(sample(prior, seed, indices, "rendered faces")).permute(0, 2, 3, 1).numpy()
        for index, image in zip(indices, images, strict=True):
            if index not in missing:
                continue
            with replacing(folder / f"{index:06}.png") as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
        if on_progress is not None:
            on_progress(indices.stop)
