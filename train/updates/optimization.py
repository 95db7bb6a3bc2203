"""Adam with lazy regularisation, rates over images seen, one update of the weights, and the parts of its batch."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed
from torch import Tensor, nn

from data.dataset import FaceBatch
from system.wording import counted

Groups = Sequence[tuple[Iterable[nn.Parameter], float]]
"""Parameters and their learning rate."""


def check_rates(options: Mapping[str, Any], betas: tuple[float, float]) -> None:
    """Raises ValueError where a rate or the loss to wait at, by name in `options`, is negative or not finite, or a beta
    is outside of [0, 1)."""
    rates = {name: rate for name, rate in options.items() if name.endswith("_rate") and rate is not None}
    wrong = [f"{name} {rate:g}" for name, rate in rates.items() if not 0 <= rate < float("inf")]
    if wrong:
        raise ValueError(f"optimization: learning rates must be 0 or more and finite, got {', '.join(wrong)}")
    waits_below = options.get("discriminator_waits_below", 0.0)
    if not 0 <= waits_below < float("inf"):
        raise ValueError(f"optimization: discriminator_waits_below must be 0 or more and finite, got {waits_below:g}")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"optimization: betas must lie in [0, 1), got {betas[0]:g} and {betas[1]:g}")


@dataclass(frozen=True)
class ClipNorm:
    """Largest norm of the gradient of an update, lazy terms included; a longer gradient is shortened to it.

    Adam is indifferent to a gradient's scale: this tames single updates, and lowers no learning rate. The log shows the
    norms before (`…/gradient_norm`).
    """

    generator: float | None = None
    """Over all parameters of the generator; null for no bound."""
    discriminator: float | None = None
    """Over all parameters of the discriminator; null for no bound."""

    def __post_init__(self) -> None:
        if not all(norm is None or 0 < norm < float("inf") for norm in (self.generator, self.discriminator)):
            raise ValueError(
                f"clip_norm must be above 0 and finite, or null for none, got generator {self.generator} and "
                f"discriminator {self.discriminator}"
            )


def lazy_adam(groups: Groups, betas: tuple[float, float], interval: int) -> torch.optim.Adam:
    """Adam whose rates make up for the additional steps of a lazy regulariser, one every `interval` iterations (0:
    none).

    With c = interval / (interval + 1) learning rates become rate·c and betas beta^c.

    Source: StyleGAN2 (arXiv 1912.04958) appendix B, lazy regularization.
    """
    ratio = interval / (interval + 1) if interval > 0 else 1.0
    parameters = [{"params": list(members), "lr": rate * ratio} for members, rate in groups]
    # Fused: one pass over the parameters, and the only one that can skip an update without asking the host.
    return torch.optim.Adam(parameters, betas=(betas[0] ** ratio, betas[1] ** ratio), eps=1e-8, fused=True)


def is_due(iteration: int, interval: int) -> bool:
    """Whether a lazy term is computed in an iteration; interval 0 means never."""
    return interval > 0 and iteration % interval == 0


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, a network passes gradients on to its input but computes none for its parameters."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def average_gradients(gradients: Sequence[Tensor], loss: Tensor) -> Tensor:
    """Averages gradients and loss over all processes, in one flattened all-reduce; returns the averaged loss."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return loss
    flat = torch.cat([*(g.reshape(-1) for g in gradients), loss.reshape(1)])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for gradient, part in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    return flat[-1]


class PartLoss(NamedTuple):
    """The loss of one part of a batch and what is logged of it."""

    loss: Tensor
    """Scalar to minimise, a mean over the images of the part."""
    logged: dict[str, Tensor]
    """Scalars for the log, means as well."""


class Updated(NamedTuple):
    """What `update` did."""

    logged: dict[str, Tensor]
    """Means of the parts' scalars, and the norm of the averaged gradient."""
    skipped: Tensor
    """Scalar: 1 where the update was skipped, else 0."""


def update(
    optimizer: torch.optim.Optimizer,
    parts: Iterable[PartLoss],
    clip_norm: float | None = None,
    norm_name: str = "gradient_norm",
    waits_below: float = 0.0,
) -> Updated:
    """One step of an optimizer, skipped where loss or gradient are not finite, without asking the host.

    Args:
        optimizer: Fused Adam.
        parts: Of the batch of this process, equal in size. Each is asked for after the graph of the one before was
            freed, so an iterator that computes them has one graph in memory.
        clip_norm: Largest norm of the gradient over all parameters of the optimizer; None for no bound.
        norm_name: What the norm of the gradient is called in the log.
        waits_below: The step is left out, too, where the loss is below this; 0 for never.
    """
    # Backward, part by part: the sum of their gradients over their number is the gradient of the whole batch.
    optimizer.zero_grad(set_to_none=True)
    done: list[PartLoss] = []
    for part in parts:
        part.loss.backward()
        done.append(PartLoss(part.loss.detach(), {name: value.detach() for name, value in part.logged.items()}))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if len(done) > 1:
        torch._foreach_mul_(gradients, 1 / len(done))
    # Mean over processes.
    loss = _mean([part.loss for part in done])
    averaged_loss = average_gradients(gradients, loss)  # all processes have to agree on skipping
    # Adam's step, which changes nothing where a value is not finite.
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    skipped = (~torch.isfinite(norm + averaged_loss)).to(torch.float32)
    waited = (averaged_loss < waits_below).to(torch.float32) if waits_below > 0 else torch.zeros_like(skipped)
    fused: Any = optimizer
    fused.grad_scale, fused.found_inf = None, torch.maximum(skipped, waited)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    logged = {name: _mean([part.logged[name] for part in done]) for name in done[0].logged}
    if waits_below > 0:
        logged["waited"] = waited
    return Updated({**logged, norm_name: norm}, skipped)


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()


@dataclass(frozen=True)
class MovingAverage:
    """How fast the averaged generator follows the trained one.

    Source: StyleGAN2 (half-life 10,000 images); the ramp-up is stylegan2-ada's.
    """

    half_life_images: float = 10_000.0
    """Images after which an old weight counts half."""
    ramp_up: float | None = 0.05
    """The half-life is at most this share of the images seen so far, so that the average leaves the random start
    quickly; null for no ramp-up."""

    def __post_init__(self) -> None:
        if self.half_life_images <= 0 or (self.ramp_up is not None and self.ramp_up <= 0):
            raise ValueError(
                f"half_life_images and ramp_up must be above 0, got {self.half_life_images} and {self.ramp_up}"
            )

    def decay(self, images_seen: int, batch_size: int) -> float:
        """Weight of the old average in the update after `images_seen` images, of which `batch_size` are new."""
        half_life = self.half_life_images
        if self.ramp_up is not None:
            half_life = min(half_life, images_seen * self.ramp_up)
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def follow(average: nn.Module, generator: nn.Module, decay: float) -> None:
    """Moves the average towards the generator: average·decay + generator·(1 - decay); buffers are copied."""
    averaged: list[Tensor] = list(average.parameters())
    trained: list[Tensor] = list(generator.parameters())
    torch._foreach_lerp_(averaged, trained, 1.0 - decay)
    for ours, theirs in zip(average.buffers(), generator.buffers(), strict=True):
        ours.copy_(theirs)


@dataclass(frozen=True)
class RateSchedule:
    """The factor of all learning rates of a run, also the discriminator's.

    It depends on the images seen and on nothing else, so that a continued run has the same rates to the bit. Its end is
    stated here and does not follow `run.total_images`, which may be raised later.
    """

    warm_up_images: int = 0
    """Images over which the rates rise linearly from 0; 0 for none."""
    decay: Literal["cosine", "linear"] | None = None
    """How they fall over `decay_range_images`; null for not at all."""
    decay_range_images: tuple[int, int] | None = None
    """Images seen where they begin to fall and where they are down."""
    last_share: float = 0.0
    """Share of the rates from there on; with 0 nothing is learned any more."""

    def __post_init__(self) -> None:
        if (self.decay is None) != (self.decay_range_images is None):
            raise ValueError(
                f"schedule: decay and decay_range_images need each other, got {self.decay} and "
                f"{self.decay_range_images}; give both or neither"
            )
        low, high = self.decay_range_images or (0, 1)
        if self.warm_up_images < 0 or not 0 <= low < high or not 0 <= self.last_share <= 1:
            raise ValueError(
                "schedule: warm_up_images must be 0 or more, decay_range_images rising from 0 or more and "
                f"last_share in [0, 1], got {self.warm_up_images}, ({low}, {high}) and {self.last_share:g}"
            )

    @property
    def is_constant(self) -> bool:
        """Whether the rates stay as they are."""
        return self.warm_up_images == 0 and self.decay is None

    def factor(self, images_seen: int) -> float:
        """Factor of the rates, [0, 1], in the iteration at whose end so many images were seen.

        Source: linear warm-up as in arXiv 1706.02677, section 2.2; cosine as in arXiv 1608.03983, equation 5, without
        restarts.
        """
        risen = min(images_seen / self.warm_up_images, 1.0) if self.warm_up_images else 1.0
        if self.decay is None or self.decay_range_images is None:
            return risen
        low, high = self.decay_range_images
        position = min(max((images_seen - low) / (high - low), 0.0), 1.0)
        left = 1 - position if self.decay == "linear" else (1 + math.cos(math.pi * position)) / 2
        return risen * (self.last_share + (1 - self.last_share) * left)


class ReusedTensor:
    """A tensor with its graph that an iteration needs twice, computed once where it `is_kept`.

    A batch of several parts computes it for each use, as memory would otherwise hold the graphs of all parts at once,
    which accumulation is there to avoid.
    """

    def __init__(self, compute: Callable[[], Tensor], is_kept: bool) -> None:
        self._compute = compute
        self._is_kept = is_kept
        self._kept: Tensor | None = None

    def __call__(self) -> Tensor:
        """Gives the tensor with its graph."""
        if self._kept is not None:
            return self._kept
        result = self._compute()
        if self._is_kept:
            self._kept = result
        return result


def split(batch: FaceBatch, num_parts: int) -> list[FaceBatch]:
    """Cuts the batch of a process into equal parts of neighbouring images; ValueError where it is no multiple of their
    number."""
    if num_parts == 1:
        return [batch]
    num_images = len(batch.image_indices)
    if num_images % num_parts:
        raise ValueError(
            f"{counted(num_images, 'image')} per process cannot be divided into {num_parts} parts (run.num_parts)"
        )
    size = num_images // num_parts
    starts = range(0, num_images, size)
    return [batch.part(start, size) for start in starts]
