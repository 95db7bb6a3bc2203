"""Stage 1: pretraining of the face prior, a StyleGAN2 generator whose noise is injected in the chosen way."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
from train.stages.embedding import describe_start, start_networks
from train.stages.stage import Computation, Part, Stage
from train.stages.validation import PriorPictures
from train.updates.adversarial import Regularization, StyledImages
from train.updates.augmentation import AdaptiveAugmentation, Augmentation
from train.updates.optimization import ClipNorm, MovingAverage, PartLoss, RateSchedule, check_rates, frozen, split


@dataclass(frozen=True)
class PriorOptimization:
    """Learning rates of stage 1, and whether its discriminator starts anew.

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
    schedule: RateSchedule = RateSchedule()
    """Warm-up and decay of all rates, in images."""
    clip_norm: ClipNorm = ClipNorm()
    """Largest norm of the gradients of an update, by network."""
    discriminator_waits_below: float = 0.0
    """The discriminator's update is left out where its loss of the batch is below this, so that one that is far ahead
    waits (undecided is 1.39); R1 goes on; 0 for never."""
    take_discriminator: bool = True
    """Go on with the discriminator of `start`; false begins a new one."""

    def __post_init__(self) -> None:
        check_rates(vars(self), self.betas)
        if not 0 <= self.style_mixing_probability <= 1:
            raise ValueError(f"style_mixing_probability must lie in [0, 1], got {self.style_mixing_probability:g}")


class PriorTraining(LightningModule):
    """Trains a prior and its discriminator.

    Differs from StyleGAN2 in that one batch of generated images serves both updates of an iteration.

    Args:
        architecture: Resolution, channels, noise mode.
        start: Prior to go on from, with its averaged weights and its discriminator: a release file, a checkpoint, a
            run's folder or its `best` or `last`; a GPEN gives its decoder. Null starts from new weights.
        optimization: Learning rates, style mixing, the discriminator's start.
        regularization: R1 and path length.
        average: Moving average of the generator.
        computation: How the batch of an iteration is computed.
        fid_num_images: Faces drawn and read for FID; fd_lite0, which stands in for it without Inception weights, takes
            at most 256; 0 for none.
        augmentation: Of what the discriminator sees, for sets of few faces.

    Source: StyleGAN2 (arXiv 1912.04958); GPEN (arXiv 2105.06070) section 3.2, stage 1.
    """

    mean_path_length: Tensor

    locate = None
    """Nothing has to be known of a photograph beside its pixels."""

    def __init__(
        self,
        architecture: Architecture,
        start: Path | None = None,
        optimization: PriorOptimization = PriorOptimization(),
        regularization: Regularization = Regularization(),
        average: MovingAverage = MovingAverage(),
        computation: Computation = Computation(),
        fid_num_images: int = 10_000,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        with seeded_initialization(computation.seed, "prior"):
            self.generator = Prior(architecture)
            self.discriminator = Discriminator(architecture, computation.minibatch_group_size)
        self.transfers = start_networks(start, self.generator, self.discriminator, optimization.take_discriminator)
        self.ema = deepcopy(self.generator).requires_grad_(False)
        self.register_buffer("mean_path_length", torch.zeros([]))
        self.augmentation = AdaptiveAugmentation(augmentation) if augmentation.target > 0 else None
        self.stage = Stage(
            self.generator,
            self.discriminator,
            self.ema,
            regularization,
            average,
            computation,
            augmentation=self.augmentation,
        )
        self.progress = self.stage.progress
        self.architecture = architecture
        self.optimization = optimization
        self.fid_num_images = fid_num_images

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Gives Adam for the generator and for the discriminator."""
        generator = [(self.generator.parameters(), self.optimization.generator_learning_rate)]
        return self.stage.optimizers(generator, self.optimization)

    def on_fit_start(self) -> None:
        """Says what started from what."""
        if self.trainer.is_global_zero and self.progress.images_seen == 0:
            print(
                describe_start(self.transfers, {"prior": self.generator, "discriminator": self.discriminator}),
                flush=True,
            )

    def training_step(self, batch: FaceBatch, batch_index: int) -> None:
        """Computes one iteration of StyleGAN2; `Stage.train` is its order."""
        # Real faces, latents and noise of each part: functions of seed and image indices.
        parts = [self._part(part) for part in split(batch, self.stage.num_parts)]
        self.stage.train(self, parts, len(batch.image_indices) * self.trainer.world_size)

    def _part(self, batch: FaceBatch) -> Part:
        indices = batch.image_indices
        styled_indices = indices[:: self.stage.regularization.path_length_batch_shrink]
        return Part(
            real=self._augment(uint8_to_model(batch.target), "augmentation of real", indices),
            generate=partial(self.draw, indices),
            loss=partial(self._generator_loss, image_indices=indices),
            generate_styled=partial(self._draw_styled, styled_indices),
            show=lambda generated: self._augment(generated.detach(), "augmentation of generated", indices),
        )

    def _augment(self, images: Tensor, purpose: str, image_indices: Sequence[int]) -> Tensor:
        """What the discriminator sees of images: themselves, or augmented with a strength that does not leak."""
        if self.augmentation is None:
            return images
        augmented: Tensor = self.augmentation(images, self.progress.seed, purpose, image_indices)
        return augmented

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

    def _generator_loss(self, generated: Tensor, image_indices: Sequence[int]) -> PartLoss:
        shown = self._augment(generated, "augmentation for the generator", image_indices)
        with frozen(self.discriminator):
            loss = generator_logistic_loss(self.discriminator(shown).logits)
        return PartLoss(loss, {"adversarial": loss})

    def _draw_styled(self, image_indices: Sequence[int]) -> StyledImages:
        styles, noises = self._styles_and_noises(image_indices, "path length")
        image = self.generator.synthesis(styles, noises)
        shape = tuple(image.shape[1:])
        direction = draw_normal(shape, self.progress.seed, "path length direction", image_indices, self.device)
        return StyledImages(image, styles, direction)

    def validation_callback(self, reporting: Reporting) -> PriorPictures:
        """Gives what validates this stage."""
        return PriorPictures(self, reporting)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores progress and architecture."""
        self.stage.store(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the progress."""
        self.progress.restore(checkpoint)
