"""The updates both stages share: discriminator, R1 and path length."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from losses.adversarial import discriminator_logistic_loss
from losses.regularization import path_length_penalty, r1_penalty
from models import Discriminator
from models.differentiation import features_only
from train.optimization import update
from train.processes import average_over_processes


@dataclass(frozen=True)
class Regularization:
    """The lazy regularisers.

    Source: StyleGAN2 (arXiv 1912.04958) appendix B.
    """

    r1_weight: float = 10.0
    """γ of R1; the penalty is γ/2 · |gradient|²."""
    r1_interval: int = 16
    """Iterations between two R1 steps; 0 for none."""
    path_length_weight: float = 2.0
    """Weight of the path length penalty."""
    path_length_interval: int = 4
    """Iterations between two path length steps; 0 for none."""
    path_length_decay: float = 0.01
    """Share of a new batch in the running mean of the path length."""
    path_length_batch_shrink: int = 2
    """The path length is computed on one image of this many."""

    def __post_init__(self) -> None:
        if self.path_length_batch_shrink < 1 or min(self.r1_interval, self.path_length_interval) < 0:
            raise ValueError(
                "regularization: intervals must be 0 or more and path_length_batch_shrink at least 1, got "
                f"{self.r1_interval}, {self.path_length_interval} and {self.path_length_batch_shrink}"
            )


def update_discriminator(
    discriminator: Discriminator, optimizer: torch.optim.Optimizer, real: Tensor, generated: Tensor
) -> dict[str, Tensor]:
    """One step of the logistic loss.

    Args:
        discriminator: To update.
        optimizer: Its own.
        real: [N, 3, R, R] in [-1, 1]; stage 2 gives the targets.
        generated: The same without a graph; stage 2 gives the restored faces.

    Returns:
        What to log.
    """
    both = discriminator(torch.cat([real, generated]), num_batches=2).logits
    real_logits, generated_logits = both.chunk(2)
    loss = discriminator_logistic_loss(real_logits, generated_logits)
    norm, skipped = update(optimizer, loss)
    return {
        "discriminator/adversarial": loss,
        "discriminator/real_score": real_logits.mean(),
        "discriminator/generated_score": generated_logits.mean(),
        "discriminator/gradient_norm": norm,
        "discriminator/skipped": skipped,
    }


def regularize_discriminator(
    discriminator: Discriminator, optimizer: torch.optim.Optimizer, real: Tensor, regularization: Regularization
) -> dict[str, Tensor]:
    """One R1 step in float32; arguments and result as for `update_discriminator`."""
    with torch.autocast(real.device.type, enabled=False):
        real = real.detach().requires_grad_()
        logits = discriminator(real).logits
        with features_only():
            penalty = r1_penalty(logits, real)
        weight = regularization.r1_weight / 2 * regularization.r1_interval
        _, skipped = update(optimizer, penalty * weight)
    return {"discriminator/r1_penalty": penalty, "discriminator/skipped": skipped}


def regularize_generator(
    draw: Callable[[], tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    direction: Tensor,
    mean_path_length: Tensor,
    regularization: Regularization,
) -> dict[str, Tensor]:
    """One path length step in float32.

    Args:
        draw: Gives images [N, 3, R, R] and the styles [N, L, D] in their graph.
        optimizer: Of the generator.
        direction: N(0, 1) of the images' shape.
        mean_path_length: Running mean, scalar; changed in place.
        regularization: Weight, interval, decay.

    Returns:
        What to log.
    """
    with torch.autocast(direction.device.type, enabled=False):
        image, styles = draw()
        with features_only():
            path = path_length_penalty(image, styles, mean_path_length, direction, regularization.path_length_decay)
        weight = regularization.path_length_weight * regularization.path_length_interval
        _, skipped = update(optimizer, path.penalty * weight)
    mean_path_length.copy_(average_over_processes(path.mean_path_length))
    return {
        "generator/path_length_penalty": path.penalty,
        "generator/path_length": path.lengths.mean(),
        "generator/skipped": skipped,
    }
