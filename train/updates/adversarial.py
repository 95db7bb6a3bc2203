"""The updates both stages share: discriminator, R1 and path length."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from losses.adversarial import discriminator_logistic_loss, path_length_penalty, path_lengths, r1_penalty
from models import Discriminator
from models.discriminator import ComponentDiscriminators
from models.operators.convolution import features_only
from train.processes.strategy import average_over_processes
from train.updates.optimization import PartLoss, ReusedTensor, Updated, update


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
        weights = self.r1_weight, self.path_length_weight
        if not all(0 <= weight < float("inf") for weight in weights) or not 0 < self.path_length_decay <= 1:
            raise ValueError(
                "regularization: weights must be 0 or more and finite and path_length_decay in (0, 1], got "
                f"{weights[0]:g}, {weights[1]:g} and {self.path_length_decay:g}"
            )


def update_discriminator(
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    pairs: Iterable[tuple[Tensor, Tensor]],
    clip_norm: float | None = None,
    components: ComponentDiscriminators | None = None,
    waits_below: float = 0.0,
) -> Updated:
    """One step of the logistic loss; `clip_norm` and `waits_below` as for `update`.

    Pairs are real and generated images of each part of the batch, both [N, 3, R, R] in [-1, 1] and without a graph;
    stage 2 gives targets and restored faces. The losses of the discriminators of eyes and mouth, whose parameters the
    optimizer has too, are added.
    """

    def part(real: Tensor, generated: Tensor) -> PartLoss:
        # Scores of real and generated images in one pass; groups of the standard deviation hold one kind only.
        both = torch.cat([real, generated])
        real_logits, generated_logits = discriminator(both, num_batches=2).logits.chunk(2)
        # Logistic loss (Goodfellow et al. 2014, equation 1).
        loss = discriminator_logistic_loss(real_logits, generated_logits)
        logged = {"adversarial": loss, "real_score": real_logits.mean(), "generated_score": generated_logits.mean()}
        logged["real_sign"] = real_logits.sign().mean()  # near 1 the discriminator knows the faces by heart
        if components is None:
            return PartLoss(loss, logged)
        # The same loss of the discriminators of eyes and mouth, their mean.
        judged = [discriminator_logistic_loss(*judgement.logits.chunk(2)) for judgement in components(both)]
        of_components = torch.stack(judged).mean()
        return PartLoss(loss + of_components, {**logged, "components": of_components})

    return update(optimizer, (part(*pair) for pair in pairs), clip_norm, waits_below=waits_below)


def regularize_discriminator(
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    reals: Iterable[Tensor],
    weights: Regularization,
    clip_norm: float | None = None,
) -> Updated:
    """One R1 step in float32; arguments and result as for `update_discriminator`."""

    def part(real: Tensor) -> PartLoss:
        # Gradient of the real scores in the images, differentiated once more (Mescheder et al. 2018, equation 9).
        real = real.detach().requires_grad_()
        logits = discriminator(real).logits
        with features_only():
            penalty = r1_penalty(logits, real)
        # γ/2, and the interval, as the penalty stands in for those of the iterations without (StyleGAN2, appendix B).
        return PartLoss(penalty * (weights.r1_weight / 2 * weights.r1_interval), {"r1_penalty": penalty})

    with torch.autocast(next(discriminator.parameters()).device.type, enabled=False):
        return update(optimizer, map(part, reals), clip_norm, "r1_gradient_norm")


class StyledImages(NamedTuple):
    """What the path length is computed from."""

    image: Tensor
    """[N, 3, R, R] in the graph of the styles."""
    styles: Tensor
    """[N, L, D]."""
    direction: Tensor
    """N(0, 1) of the images' shape."""


def regularize_generator(
    draws: Sequence[Callable[[], StyledImages]],
    optimizer: torch.optim.Optimizer,
    mean_path_length: Tensor,
    weights: Regularization,
    clip_norm: float | None = None,
) -> Updated:
    """One path length step in float32; the running mean, a scalar, is changed in place.

    It contains the mean over the whole batch, so that several parts are drawn twice: for that mean, and for their
    gradients.
    """

    def measure(draw: Callable[[], StyledImages]) -> Tensor:
        with features_only():
            return path_lengths(*draw())

    def part(lengths: Tensor) -> PartLoss:
        # Squared distance of the lengths from their running mean a (StyleGAN2, equation 4).
        penalty = path_length_penalty(lengths, batch_mean, running_mean, weights.path_length_decay)
        loss = penalty * (weights.path_length_weight * weights.path_length_interval)
        return PartLoss(loss, {"path_length_penalty": penalty, "path_length": lengths.mean()})

    with torch.autocast(mean_path_length.device.type, enabled=False):
        # Lengths |Jᵀy|: how far images move with their styles, along the random direction y (StyleGAN2, section 3.2).
        lengths_of = [ReusedTensor(partial(measure, draw), is_kept=len(draws) == 1) for draw in draws]
        batch_mean = torch.stack([lengths().detach().mean() for lengths in lengths_of]).mean()
        batch_mean = average_over_processes(batch_mean)
        # a, the running mean of the lengths of whole batches.
        running_mean = mean_path_length.lerp(batch_mean, weights.path_length_decay)
        updated = update(optimizer, (part(lengths()) for lengths in lengths_of), clip_norm, "path_length_gradient_norm")
    mean_path_length.copy_(torch.where(updated.skipped > 0, mean_path_length, running_mean))
    return updated
