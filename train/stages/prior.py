"""Stage 1: pretraining of the face prior, a StyleGAN2 generator whose noise is injected in the chosen way."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from data.dataset import FaceBatch
from data.randomness import draw_crossovers, draw_noises, draw_normal, seeded_initialization
from data.ranges import uint8_to_model
from losses.adversarial import generator_logistic_loss
from models import Architecture, Discriminator, Prior
from train.reporting.console import Reporting
from train.run.checkpoints import RunCheckpoints
from train.run.progress import Progress
from train.run.settings import RunSettings
from train.stages.prior_validation import PriorPictures
from train.updates.adversarial import (
    Regularization,
    StyledImages,
    regularize_discriminator,
    regularize_generator,
    update_discriminator,
)
from train.updates.moving_average import MovingAverage, follow
from train.updates.optimization import PartLoss, frozen, is_due, lazy_adam, update
from train.updates.parts import Recomputed, split


@dataclass(frozen=True)
class PriorOptimization:
    """Learning rates of stage 1.

    Source: StyleGAN2 (arXiv 1912.04958) configuration F.
    """

    generator_learning_rate: float = 2e-3
    """Adam's rate for mapping and synthesis network."""
    discriminator_learning_rate: float = 2e-3
    """Adam's rate for the discriminator."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's betas, before the correction for lazy regularisation."""
    style_mixing_probability: float = 0.9
    """Share of images drawn from two latents."""


class PriorTraining(LightningModule):
    """Trains a prior and its discriminator.

    Differs from StyleGAN2 in that one batch of generated images serves both updates of an iteration.

    Args:
        architecture: Resolution, channels, noise mode.
        optimization: Learning rates and style mixing.
        regularization: R1 and path length.
        average: Moving average of the generator.
        minibatch_group_size: Of the discriminator's standard deviation; null for the whole batch.
        fid_num_images: Faces drawn and read for FID, where Inception weights can be had; 0 for none.
        num_parts: Of the batch of a process, computed one after the other; set by `run.num_parts`.
        recompute: Compute activations again in the backward pass: less memory, more time (docs/performance.md).
        seed: Of the run; set by `run.seed`.

    Source: StyleGAN2 (arXiv 1912.04958); GPEN (arXiv 2105.06070) section 3.2, stage 1.
    """

    mean_path_length: Tensor

    def __init__(
        self,
        architecture: Architecture,
        optimization: PriorOptimization = PriorOptimization(),
        regularization: Regularization = Regularization(),
        average: MovingAverage = MovingAverage(),
        minibatch_group_size: int | None = 4,
        fid_num_images: int = 10_000,
        num_parts: int = 1,
        recompute: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        with seeded_initialization(seed, "prior"):
            self.generator = Prior(architecture)
            self.discriminator = Discriminator(architecture, minibatch_group_size)
        self.generator.to(memory_format=torch.channels_last)
        self.discriminator.to(memory_format=torch.channels_last)
        self.ema = deepcopy(self.generator).requires_grad_(False)
        self.generator.synthesis.recompute = self.discriminator.recompute = recompute
        self.register_buffer("mean_path_length", torch.zeros([]))
        self.architecture = architecture
        self.optimization = optimization
        self.regularization = regularization
        self.average = average
        self.fid_num_images = fid_num_images
        self.num_parts = num_parts
        self.progress = Progress(seed)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the generator and for the discriminator."""
        o, r = self.optimization, self.regularization
        generator = lazy_adam(
            [(self.generator.parameters(), o.generator_learning_rate)], o.betas, r.path_length_interval
        )
        discriminator = lazy_adam(
            [(self.discriminator.parameters(), o.discriminator_learning_rate)], o.betas, r.r1_interval
        )
        return [generator, discriminator]

    def training_step(self, batch: FaceBatch, batch_index: int) -> None:
        """One iteration: discriminator, R1, generator, path length, moving average."""
        parts = split(batch, self.num_parts)
        generated = [Recomputed(partial(self.draw, part.image_indices), len(parts) == 1) for part in parts]
        batch_size = len(batch.image_indices) * self.trainer.world_size
        iteration = self.progress.images_seen // batch_size
        r, log = self.regularization, self.progress.log

        pairs = ((uint8_to_model(part.target), draw().detach()) for part, draw in zip(parts, generated, strict=True))
        log("discriminator", update_discriminator(self.discriminator, self._optimizer(1), pairs))
        if is_due(iteration, r.r1_interval):
            reals = (uint8_to_model(part.target) for part in parts)
            log("discriminator", regularize_discriminator(self.discriminator, self._optimizer(1), reals, r))
        log("generator", update(self._optimizer(0), (self._generator_loss(draw()) for draw in generated)))
        if is_due(iteration, r.path_length_interval):
            draws = [partial(self._draw_styled, part.image_indices[:: r.path_length_batch_shrink]) for part in parts]
            log("generator", regularize_generator(draws, self._optimizer(0), self.mean_path_length, r))

        self.progress.images_seen += batch_size
        follow(self.ema, self.generator, self.average.decay(self.progress.images_seen, batch_size))

    def draw(self, image_indices: Sequence[int]) -> Tensor:
        """Draws images [N, 3, R, R] that belong to the images of the run, with the trained generator."""
        return self.generator.synthesis(*self._styles_and_noises(image_indices, "latent"))

    def _styles_and_noises(self, image_indices: Sequence[int], purpose: str) -> tuple[Tensor, list[Tensor]]:
        seed, num_styles = self.progress.seed, self.architecture.num_styles
        latents = draw_normal((2, self.architecture.style_dim), seed, purpose, image_indices, self.device)
        first, second = self.generator.mapping(latents.flatten(0, 1)).unflatten(0, (-1, 2)).unbind(1)  # [N, D] each
        probability = self.optimization.style_mixing_probability
        crossovers = draw_crossovers(probability, num_styles, seed, image_indices).to(self.device, non_blocking=True)
        is_first = torch.arange(num_styles, device=self.device) < crossovers[:, None]  # [N, L]
        styles = torch.where(is_first[:, :, None], first[:, None], second[:, None])  # [N, L, D]
        shapes = self.generator.synthesis.noise_shapes()
        return styles, draw_noises(shapes, seed, f"{purpose} noise", image_indices, self.device)

    def _generator_loss(self, generated: Tensor) -> PartLoss:
        with frozen(self.discriminator):
            loss = generator_logistic_loss(self.discriminator(generated).logits)
        return PartLoss(loss, {"adversarial": loss})

    def _draw_styled(self, image_indices: Sequence[int]) -> StyledImages:
        styles, noises = self._styles_and_noises(image_indices, "path length")
        image = self.generator.synthesis(styles, noises)
        shape = tuple(image.shape[1:])
        direction = draw_normal(shape, self.progress.seed, "path length direction", image_indices, self.device)
        return StyledImages(image, styles, direction)

    def _optimizer(self, index: int) -> torch.optim.Optimizer:
        optimizers: Any = self.optimizers()
        return optimizers[index].optimizer

    def validation_callback(
        self, settings: RunSettings, batch_size: int, reporting: Reporting, checkpoints: RunCheckpoints
    ) -> PriorPictures:
        """What validates this stage."""
        return PriorPictures(settings, batch_size, reporting, checkpoints, self.fid_num_images)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores progress and architecture."""
        self.progress.store(checkpoint, "prior", self.architecture, self.discriminator.minibatch_group_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the progress."""
        self.progress.restore(checkpoint)
